// The two doors between C++ and PostgreSQL, whose errors are longjmps.
//
//   pg::entry(f)  every extern "C" function is `return pg::entry([&] { ... })`: a C++ exception never leaves it, it becomes
//                 an ereport(ERROR) with SQLSTATE, DETAIL and HINT kept.
//   pg::call(f)   runs PostgreSQL code that may ERROR below C++ objects with destructors: the error arrives as pg::Error,
//                 destructors run, pg::entry raises it again. An error once caught is always raised again, or was inside
//                 an internal subtransaction that the catcher rolls back.
//
// A frame from which PostgreSQL may ERROR without pg::call holds only trivially destructible locals.
#pragma once

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

    static ErrorState save() { return {PG_exception_stack, error_context_stack, CurrentMemoryContext}; }
    void restore() const {
        PG_exception_stack = exception_stack;
        error_context_stack = context_stack;
        MemoryContextSwitchTo(memory_context);
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

// A copy that cannot throw: nullptr when memory is short.
inline char* copy_text(const char* text) {
    const std::size_t size = std::strlen(text) + 1;
    auto* copy = static_cast<char*>(palloc_extended(size, MCXT_ALLOC_NO_OOM));
    if (copy != nullptr) {
        std::memcpy(copy, text, size);
    }
    return copy;
}

inline int make_sqlstate(const char* code) { return MAKE_SQLSTATE(code[0], code[1], code[2], code[3], code[4]); }

[[noreturn]] inline void raise(const Failure& failure) {
    if (failure.error != nullptr) {
        ReThrowError(failure.error);
    }
    ereport(ERROR,
            (errcode(failure.sqlstate),
             errmsg("%s", failure.message != nullptr ? failure.message : "out of memory"),
             failure.detail != nullptr ? errdetail("%s", failure.detail) : 0,
             failure.hint != nullptr ? errhint("%s", failure.hint) : 0));
    pg_unreachable();
}

} // namespace detail

// Runs f, which may raise a PostgreSQL ERROR; throws pg::Error instead. f holds nothing that needs a destructor, and what it
// returns is plain data: a longjmp out of f must have nothing to skip. About 8 ns, as sigsetjmp saves no signal mask.
template <class F>
auto call(F&& f) -> std::invoke_result_t<F&> {
    using Result = std::invoke_result_t<F&>;
    static_assert(std::is_trivially_destructible_v<std::remove_reference_t<F>>,
                  "pg::call: capture references and plain data only");
    static_assert(std::is_void_v<Result> || std::is_trivially_copyable_v<Result>,
                  "pg::call: return plain data only");

    const detail::ErrorState state = detail::ErrorState::save();
    sigjmp_buf local;
    if (sigsetjmp(local, 0) == 0) {
        PG_exception_stack = &local;
        try {
            if constexpr (std::is_void_v<Result>) {
                f();
                PG_exception_stack = state.exception_stack;
                return;
            } else {
                Result result = f();
                PG_exception_stack = state.exception_stack;
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
template <class F>
auto entry(F&& f) -> std::invoke_result_t<F&> {
    static_assert(std::is_trivially_destructible_v<std::remove_reference_t<F>>,
                  "pg::entry: capture references and plain data only");
    const detail::ErrorState state = detail::ErrorState::save();
    detail::Failure failure{};
    failure.sqlstate = ERRCODE_OUT_OF_MEMORY;
    try {
        return f();
    } catch (const Error& error) {
        failure.error = error.data();
    } catch (const std::bad_alloc&) {
        // the defaults say it
    } catch (const tandem::Error& error) {
        failure.sqlstate = detail::make_sqlstate(error.sqlstate());
        failure.message = detail::copy_text(error.what());
        failure.detail = error.detail().empty() ? nullptr : detail::copy_text(error.detail().c_str());
        failure.hint = error.hint().empty() ? nullptr : detail::copy_text(error.hint().c_str());
    } catch (const std::exception& error) {
        failure.sqlstate = ERRCODE_INTERNAL_ERROR;
        failure.message = detail::copy_text(error.what());
    } catch (...) {
        failure.sqlstate = ERRCODE_INTERNAL_ERROR;
        failure.message = detail::copy_text("unknown C++ exception");
    }
    // The catch block is left: the exception object is gone, and raising skips no destructor.
    state.restore();
    detail::raise(failure);
}

} // namespace pg

// Declares and opens a C function callable from SQL.
#define TANDEM_FUNCTION(name)                                                                                \
    extern "C" {                                                                                             \
    PG_FUNCTION_INFO_V1(name);                                                                               \
    }                                                                                                        \
    extern "C" Datum name(PG_FUNCTION_ARGS)
