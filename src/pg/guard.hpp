// The doors between C++ and PostgreSQL, whose errors are longjmps.
//
//   pg::entry(f)  every extern "C" function is `return pg::entry([&] { ... })`: a C++ exception never leaves it, it
//   becomes
//                 an ereport(ERROR) with SQLSTATE, DETAIL and HINT kept.
//   pg::call(f)   runs PostgreSQL code that may ERROR below C++ objects with destructors: the error arrives as
//   pg::Error,
//                 destructors run, pg::entry raises it again. An error once caught is always raised again.
//   pg::attempt(f)  the exception to that: f in a subtransaction of its own, which is rolled back when f fails. Only so
//   can the
//                 caller go on after an ERROR.
//
// A frame from which PostgreSQL may ERROR without pg::call holds only trivially destructible locals. A destructor never
// calls anything that may ERROR, with or without pg::call: an exception that leaves a destructor ends the process. Nor
// is there any pg::call in an error context callback, nor in a PG_CATCH that raises its error again: the error that is
// pending there would be lost.
#pragma once

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
#include <type_traits>
#include <utility>

#include "core/error.hpp"

namespace pg {

// A PostgreSQL ERROR on its way through C++ frames. The ErrorData lives in the memory context that was current at the
// pg::call; nullptr means that even copying it ran out of memory.
class Error : public std::exception {
  public:
    explicit Error(ErrorData* data) noexcept : data_(data) {}
    const char* what() const noexcept override {
        return data_ != nullptr && data_->message != nullptr ? data_->message : "out of memory";
    }
    ErrorData* data() const noexcept { return data_; }
    int sqlerrcode() const noexcept { return data_ != nullptr ? data_->sqlerrcode : ERRCODE_OUT_OF_MEMORY; }

  private:
    ErrorData* data_;
};

namespace detail {

struct ErrorState {
    sigjmp_buf* exception_stack;
    ErrorContextCallback* context_stack;
    MemoryContext memory_context;
    uint32 interrupt_holdoff;
    uint32 cancel_holdoff;

    static ErrorState save() {
        return {PG_exception_stack, error_context_stack, CurrentMemoryContext, InterruptHoldoffCount,
                QueryCancelHoldoffCount};
    }
    // An ERROR sets the holdoff counts to 0: whoever holds interrupts around a pg::call must find them as he left them,
    // or his RESUME_INTERRUPTS takes the count below 0, and no timeout ever fires again.
    void restore() const {
        restore_stacks();
        MemoryContextSwitchTo(memory_context);
        InterruptHoldoffCount = interrupt_holdoff;
        QueryCancelHoldoffCount = cancel_holdoff;
    }
    void restore_stacks() const {
        PG_exception_stack = exception_stack;
        error_context_stack = context_stack;
    }
};

// Copies the pending error out of the error stack. Copying allocates, and so may fail in its turn.
inline ErrorData* take_error(const ErrorState& state) {
    sigjmp_buf local;
    ErrorData* volatile copy = nullptr;
    if (sigsetjmp(local, 0) == 0) {
        PG_exception_stack = &local;
        copy = CopyErrorData();
    }
    state.restore();
    FlushErrorState();
    return copy;
}

// What entry keeps once it has left the catch block: nothing with a destructor.
struct Failure {
    ErrorData* error;
    int sqlstate;
    char* message;
    char* detail;
    char* hint;
};

// A copy that cannot fail: nullptr when memory is short. Cut where it is longer than anybody reads (palloc has a limit,
// and would raise an ERROR at it), and without bytes that are no text of the database's encoding, which no client could
// be sent.
inline char* copy_text(const char* text) {
    constexpr std::size_t kLongest = 64 * 1024;
    std::size_t size = strnlen(text, kLongest);
    if (size == kLongest) {
        size = static_cast<std::size_t>(pg_mbcliplen(text, kLongest, kLongest - 1));
    }
    auto* copy = static_cast<char*>(palloc_extended(size + 1, MCXT_ALLOC_NO_OOM));
    if (copy == nullptr) {
        return nullptr;
    }
    std::memcpy(copy, text, size);
    copy[size] = '\0';
    if (!pg_verifymbstr(copy, static_cast<int>(size), true)) {
        std::replace_if(
            copy, copy + size, [](char c) { return (static_cast<unsigned char>(c) & 0x80) != 0; }, '?');
    }
    return copy;
}

inline int make_sqlstate(const char* code) {
    return MAKE_SQLSTATE(code[0], code[1], code[2], code[3], code[4]);
}

// Called in a catch block: what is being handled, without anything that has a destructor.
inline Failure current_failure() noexcept {
    Failure failure{};
    failure.sqlstate = ERRCODE_INTERNAL_ERROR;
    try {
        throw;
    } catch (const Error& error) {
        failure.error = error.data();
        failure.sqlstate = error.sqlerrcode();
    } catch (const std::bad_alloc&) {
        failure.sqlstate = ERRCODE_OUT_OF_MEMORY;
    } catch (const tandem::Error& error) {
        failure.sqlstate = make_sqlstate(error.sqlstate());
        failure.message = copy_text(error.what());
        failure.detail = error.detail().empty() ? nullptr : copy_text(error.detail().c_str());
        failure.hint = error.hint().empty() ? nullptr : copy_text(error.hint().c_str());
    } catch (const std::exception& error) {
        failure.message = copy_text(error.what());
    } catch (...) {
        failure.message = copy_text("unknown C++ exception");
    }
    return failure;
}

[[noreturn]] inline void raise(const Failure& failure) {
    if (failure.error != nullptr) {
        // As a first ERROR does, and ReThrowError does not: nobody above will resume what was held below.
        InterruptHoldoffCount = 0;
        QueryCancelHoldoffCount = 0;
        ReThrowError(failure.error);
    }
    ereport(ERROR,
            (errcode(failure.sqlstate), errmsg("%s", failure.message != nullptr ? failure.message : "out of memory"),
             failure.detail != nullptr ? errdetail("%s", failure.detail) : 0,
             failure.hint != nullptr ? errhint("%s", failure.hint) : 0));
    pg_unreachable();
}

// What a longjmp may jump out of: it has nothing to destroy.
template <class F>
concept Jumpable = std::is_trivially_destructible_v<std::remove_reference_t<F>>;
template <class Result>
concept PlainData = std::is_void_v<Result> || std::is_trivially_copyable_v<Result>;

} // namespace detail

// Runs f, which may raise a PostgreSQL ERROR; throws pg::Error instead. f captures references and plain data only, and
// returns plain data. When f fails, the memory context, the error stacks and the interrupt holdoffs are as they were;
// when it ends well, the memory context is what f left. About 8 ns, as sigsetjmp saves no signal mask.
template <detail::Jumpable F>
auto call(F&& f) -> std::invoke_result_t<F&>
requires detail::PlainData<std::invoke_result_t<F&>> {
    const detail::ErrorState state = detail::ErrorState::save();
    sigjmp_buf local;
    if (sigsetjmp(local, 0) == 0) {
        PG_exception_stack = &local;
        try {
            if constexpr (std::is_void_v<std::invoke_result_t<F&>>) {
                f();
                state.restore_stacks();
                return;
            } else {
                auto result = f();
                state.restore_stacks();
                return result;
            }
        } catch (...) {
            state.restore();
            throw;
        }
    }
    state.restore();
    throw Error(detail::take_error(state));
}

// Runs the body of an extern "C" function; no C++ exception leaves it.
template <detail::Jumpable F>
auto entry(F&& f) -> std::invoke_result_t<F&> {
    const detail::ErrorState state = detail::ErrorState::save();
    detail::Failure failure;
    try {
        return f();
    } catch (...) {
        state.restore(); // first: the current memory context may have gone with a scope that was left
        failure = detail::current_failure();
    }
    // The catch block is left: the exception object is gone, and raising skips no destructor.
    detail::raise(failure);
}

// Runs f in an internal subtransaction. nullptr: f ended well, and what it did is kept. Otherwise it is undone; a
// PostgreSQL ERROR is returned, in the caller's memory context, and any other exception goes on.
template <detail::Jumpable F>
ErrorData* attempt(F&& f) {
    const MemoryContext context = CurrentMemoryContext;
    const ResourceOwner owner = CurrentResourceOwner;
    const auto leave = [&](bool keep) {
        call([&] {
            if (keep) {
                ReleaseCurrentSubTransaction();
            } else {
                RollbackAndReleaseCurrentSubTransaction();
            }
            MemoryContextSwitchTo(context);
            CurrentResourceOwner = owner;
        });
    };
    call([&] {
        BeginInternalSubTransaction(nullptr);
        MemoryContextSwitchTo(context); // the error must outlive the subtransaction
    });
    try {
        call(f);
    } catch (const Error& error) {
        leave(false);
        if (error.data() == nullptr) {
            throw;
        }
        return error.data();
    } catch (...) {
        leave(false);
        throw;
    }
    leave(true);
    return nullptr;
}

} // namespace pg

// Declares and opens a C function callable from SQL.
#define TANDEM_FUNCTION(name)                                                                                          \
    extern "C" {                                                                                                       \
    PG_FUNCTION_INFO_V1(name);                                                                                         \
    }                                                                                                                  \
    extern "C" Datum name([[maybe_unused]] FunctionCallInfo fcinfo)
