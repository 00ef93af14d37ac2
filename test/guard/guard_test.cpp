// SQL functions that throw through the guards in every way we know, for test/pgtap/guard.sql. A library of
// its own that `make stage` puts beside pg_tandem.so in private clusters; it is never installed.
#include "pg/prelude.hpp"

#include <climits>
#include <csignal>
#include <stdexcept>

#include <malloc.h>

extern "C" {
PG_MODULE_MAGIC;
}

namespace {

// --- what the compiler must refuse
struct Plain {
    int value;
    int operator()() const { return value; }
};
struct HoldsString {
    std::string text;
    void operator()() const {}
};
struct ReturnsString {
    std::string operator()() const { return {}; }
};
struct ReturnsReference {
    int& operator()() const;
};
template <class F>
concept Callable = requires(F f) {
    pg::call(f);
};
template <class F>
concept Attemptable = requires(F f) {
    pg::attempt(f);
};
template <class F>
concept Enterable = requires(F f) {
    pg::entry(f);
};
static_assert(Callable<Plain> && Enterable<Plain>);
static_assert(!Callable<HoldsString> && !Attemptable<HoldsString> && !Enterable<HoldsString>,
              "a longjmp out of it would skip a destructor");
static_assert(!Callable<ReturnsString> && !Callable<ReturnsReference>, "results are plain data");

// --- an object that a skipped destructor would leak, and a second one would free twice
struct Counts {
    int64 built;
    int64 destroyed;
};
Counts counts;

class Tracked {
  public:
    Tracked() : text_(1000, 'x'), parts_(10, text_) { counts.built++; }
    ~Tracked() { counts.destroyed++; }
    Tracked(const Tracked&) = delete;
    Tracked& operator=(const Tracked&) = delete;
    std::size_t size() const { return text_.size() + parts_.size(); }

  private:
    std::string text_;
    std::vector<std::string> parts_;
};

void on_error_context(void* name) {
    errcontext("guard test: %s", static_cast<const char*>(name));
}

[[noreturn]] void raise_with_all_fields() {
    ereport(ERROR,
            (errcode(ERRCODE_CHECK_VIOLATION), errmsg("the message"), errdetail("the detail"), errhint("the hint"),
             err_generic_string(PG_DIAG_SCHEMA_NAME, "the_schema"), err_generic_string(PG_DIAG_TABLE_NAME, "the_table"),
             err_generic_string(PG_DIAG_COLUMN_NAME, "the_column"),
             err_generic_string(PG_DIAG_CONSTRAINT_NAME, "the_constraint")));
    pg_unreachable();
}

[[noreturn]] void wait_for_interrupt() {
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        pg_usleep(1000L);
    }
}

// Everything that may go wrong below a guard, by name. Its frame holds no object when PostgreSQL raises.
void fail(std::string_view kind) {
    volatile std::size_t huge = SIZE_MAX / 4; // the compiler must not see that it cannot be had
    if (kind == "none") {
        return;
    } else if (kind == "runtime_error") {
        throw std::runtime_error("a runtime error");
    } else if (kind == "tandem_error") {
        throw tandem::Error("22023", "the message", "the detail", "the hint");
    } else if (kind == "core") {
        (void)tandem::parse_stage("nonsense");
    } else if (kind == "bare") {
        throw tandem::Error("55000", "no detail, no hint");
    } else if (kind == "percent") {
        throw tandem::Error("55000", "100%s %n", "50 %", "%d");
    } else if (kind == "long") {
        std::string text = "a"; // so that the cut falls into a character
        for (int i = 0; i < 500'000; i++) {
            text += "\xc3\xb6";
        }
        throw tandem::Error("22023", text, text, text);
    } else if (kind == "bytes") {
        throw tandem::Error("22023", "not text: \xff\xfe, \xc3", "\x80", "\xf0\x9f");
    } else if (kind == "out_of_range") {
        (void)std::vector<int>().at(7);
    } else if (kind == "bad_alloc") {
        ::operator delete(::operator new(huge));
    } else if (kind == "int") {
        throw 42;
    } else if (kind == "ereport") {
        raise_with_all_fields();
    } else if (kind == "division") {
        DirectFunctionCall2(int4div, Int32GetDatum(1), Int32GetDatum(0));
    } else if (kind == "invalid_alloc") {
        palloc(huge);
    } else if (kind == "out_of_memory") {
        palloc_extended(huge, MCXT_ALLOC_HUGE);
    } else if (kind == "cancel") {
        kill(MyProcPid, SIGINT);
        wait_for_interrupt();
    } else if (kind == "terminate") {
        kill(MyProcPid, SIGTERM);
        wait_for_interrupt();
    } else if (kind == "wait") {
        wait_for_interrupt();
    } else if (kind == "in_catch") { // a second error while the first is being handled
        try {
            throw std::runtime_error("the first");
        } catch (const std::exception&) {
            pg::call([] { raise_with_all_fields(); });
        }
    } else {
        elog(ERROR, "guard_test knows no failure of this kind");
    }
}

std::string_view view_of(text* value) {
    return {VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)};
}

// The guards' promise about what they put back, as text that names what differs.
struct Surroundings {
    sigjmp_buf* exception_stack;
    ErrorContextCallback* context_stack;
    MemoryContext memory_context;
    uint32 interrupt_holdoff;
    uint32 cancel_holdoff;

    static Surroundings now() {
        return {PG_exception_stack, error_context_stack, CurrentMemoryContext, InterruptHoldoffCount,
                QueryCancelHoldoffCount};
    }
    const char* differences(const Surroundings& other) const {
        return psprintf("%s%s%s%s%s", exception_stack != other.exception_stack ? "PG_exception_stack " : "",
                        context_stack != other.context_stack ? "error_context_stack " : "",
                        memory_context != other.memory_context ? "CurrentMemoryContext " : "",
                        interrupt_holdoff != other.interrupt_holdoff ? "InterruptHoldoffCount " : "",
                        cancel_holdoff != other.cancel_holdoff ? "QueryCancelHoldoffCount " : "");
    }
};

// Changes everything that a guard has to put back, then fails.
void disturb_and_fail(std::string_view kind) {
    char name[] = "gone by the time that anybody asks";
    ErrorContextCallback callback{};
    callback.previous = error_context_stack;
    callback.callback = on_error_context;
    callback.arg = name;
    error_context_stack = &callback;
    if (kind != "none") { // who ends well puts these back himself
        MemoryContextSwitchTo(TopTransactionContext);
        HOLD_INTERRUPTS();
        HOLD_CANCEL_INTERRUPTS();
    }
    fail(kind);
}

int64 allocated_by_malloc() {
    const struct mallinfo2 info = mallinfo2();
    return static_cast<int64>(info.uordblks + info.hblkhd);
}

} // namespace

// fail(kind): the failure meets nothing but entry.
TANDEM_FUNCTION(tandem_guard_fail) {
    return pg::entry([&]() -> Datum {
        fail(view_of(PG_GETARG_TEXT_PP(0)));
        PG_RETURN_TEXT_P(cstring_to_text("went on"));
    });
}

// chain(kind, depth): entry → objects → call → PostgreSQL's function manager → entry → … and the failure at
// the bottom.
TANDEM_FUNCTION(tandem_guard_chain) {
    return pg::entry([&]() -> Datum {
        const Datum kind = PG_GETARG_DATUM(0);
        const int32 depth = PG_GETARG_INT32(1);
        char name[32];
        strlcpy(name, "level", sizeof(name));
        name[5] = static_cast<char>('0' + depth % 10);
        name[6] = '\0';
        const std::string_view wanted = view_of(DatumGetTextPP(kind));

        const Tracked first;
        const std::vector<Tracked> more(3);
        const int value = pg::call([&] {
            ErrorContextCallback callback{};
            callback.previous = error_context_stack;
            callback.callback = on_error_context;
            callback.arg = name;
            error_context_stack = &callback;
            if (depth > 1) {
                DirectFunctionCall2(tandem_guard_chain, kind, Int32GetDatum(depth - 1));
            } else {
                fail(wanted);
            }
            return Plain{7};
        })();
        text* result =
            pg::call([&] { return cstring_to_text(first.size() == 1010 && value == 7 ? "went on" : "broken"); });
        PG_RETURN_TEXT_P(result);
    });
}

// counts() → {built, destroyed} since it was last asked.
TANDEM_FUNCTION(tandem_guard_counts) {
    return pg::entry([&]() -> Datum {
        text* result = cstring_to_text(psprintf("%lld built, %lld destroyed", static_cast<long long>(counts.built),
                                                static_cast<long long>(counts.destroyed)));
        counts = Counts{};
        PG_RETURN_TEXT_P(result);
    });
}

// surroundings(kind): what differs after a call that failed, and is swallowed here.
TANDEM_FUNCTION(tandem_guard_surroundings) {
    return pg::entry([&]() -> Datum {
        const std::string_view kind = view_of(PG_GETARG_TEXT_PP(0));
        const Surroundings before = Surroundings::now();
        try {
            pg::call([&] { disturb_and_fail(kind); });
        } catch (...) {
        }
        PG_RETURN_TEXT_P(cstring_to_text(before.differences(Surroundings::now())));
    });
}

// held(kind): a section without interrupts around a call that fails; what its end leaves of
// InterruptHoldoffCount. A count below zero, 2^32-1, would mean that no timeout ever fires again.
TANDEM_FUNCTION(tandem_guard_held) {
    return pg::entry([&]() -> Datum {
        const std::string_view kind = view_of(PG_GETARG_TEXT_PP(0));
        HOLD_INTERRUPTS();
        try {
            pg::call([&] { fail(kind); });
        } catch (...) {
        }
        RESUME_INTERRUPTS();
        PG_RETURN_INT64(InterruptHoldoffCount);
    });
}

// leave_held(kind): the failure leaves the function from within a section without interrupts that began after
// it.
TANDEM_FUNCTION(tandem_guard_leave_held) {
    return pg::entry([&]() -> Datum {
        const std::string_view kind = view_of(PG_GETARG_TEXT_PP(0));
        try {
            pg::call([&] { fail(kind); });
        } catch (...) {
            HOLD_INTERRUPTS();
            HOLD_CANCEL_INTERRUPTS();
            throw;
        }
        PG_RETURN_VOID();
    });
}

TANDEM_FUNCTION(tandem_guard_holdoff) {
    return pg::entry(
        [&]() -> Datum { PG_RETURN_INT64(static_cast<int64>(InterruptHoldoffCount) + QueryCancelHoldoffCount); });
}

// repeat(kind, times): how many bytes stay allocated after so many failures that went through both guards.
TANDEM_FUNCTION(tandem_guard_repeat) {
    return pg::entry([&]() -> Datum {
        const Datum kind = PG_GETARG_DATUM(0);
        const int32 times = PG_GETARG_INT32(1);
        const MemoryContext outer = CurrentMemoryContext;
        const MemoryContext scratch = AllocSetContextCreate(outer, "guard test", ALLOCSET_DEFAULT_SIZES);
        int64 before = 0;
        for (int i = 0; i < times; i++) {
            if (i == times / 10) { // the caches are warm
                before = allocated_by_malloc() + static_cast<int64>(MemoryContextMemAllocated(TopMemoryContext, true));
            }
            MemoryContextSwitchTo(scratch);
            try {
                const Tracked tracked;
                pg::call([&] { DirectFunctionCall2(tandem_guard_chain, kind, Int32GetDatum(2)); });
            } catch (const pg::Error&) {
            }
            MemoryContextSwitchTo(outer);
            MemoryContextReset(scratch);
        }
        const int64 after =
            allocated_by_malloc() + static_cast<int64>(MemoryContextMemAllocated(TopMemoryContext, true));
        MemoryContextDelete(scratch);
        PG_RETURN_INT64(after - before);
    });
}

// uncopyable(): an error that cannot be copied, as the memory context in which the copy would live gives
// nothing. In real life that is an out of memory upon an out of memory.
TANDEM_FUNCTION(tandem_guard_uncopyable) {
    return pg::entry([&]() -> Datum {
        const MemoryContext slab = SlabContextCreate(CurrentMemoryContext, "guard test", 8192, 64);
        const Tracked tracked;
        MemoryContextSwitchTo(slab);
        pg::call([] { raise_with_all_fields(); });
        PG_RETURN_VOID();
    });
}

// lost_context(): the exception leaves a scope that took the current memory context with it.
TANDEM_FUNCTION(tandem_guard_lost_context) {
    return pg::entry([&]() -> Datum {
        struct Scope {
            Scope() : context(AllocSetContextCreate(CurrentMemoryContext, "guard test", 0, 64 * 1024, 64 * 1024)) {
                MemoryContextSwitchTo(context);
            }
            ~Scope() { MemoryContextDelete(context); }
            MemoryContext context;
        };
        const Scope scope;
        fail("tandem_error");
        PG_RETURN_VOID();
    });
}

// attempt(command, kind): executes the command in a subtransaction and then fails in it; answers with what it
// caught, and goes on.
TANDEM_FUNCTION(tandem_guard_attempt) {
    return pg::entry([&]() -> Datum {
        const char* command = text_to_cstring(PG_GETARG_TEXT_PP(0));
        const std::string_view kind = view_of(PG_GETARG_TEXT_PP(1));
        const Surroundings before = Surroundings::now();
        const ResourceOwner owner = CurrentResourceOwner;
        const int level = GetCurrentTransactionNestLevel();
        const Tracked tracked;
        const ErrorData* error = pg::attempt([&] {
            if (SPI_connect() != SPI_OK_CONNECT || SPI_execute(command, false, 0) < 0) {
                elog(ERROR, "SPI failed");
            }
            fail(kind);
            SPI_finish();
        });
        const Surroundings after = Surroundings::now();
        text* result = pg::call([&] {
            return cstring_to_text(psprintf("%s|%s|%s%s%s",
                                            error == nullptr ? "00000" : unpack_sql_state(error->sqlerrcode),
                                            error == nullptr ? "went on" : error->message, before.differences(after),
                                            CurrentResourceOwner == owner ? "" : "CurrentResourceOwner ",
                                            GetCurrentTransactionNestLevel() == level ? "" : "nest level "));
        });
        PG_RETURN_TEXT_P(result);
    });
}

// What any call of a C function costs.
extern "C" {
PG_FUNCTION_INFO_V1(tandem_guard_nothing);
}
extern "C" Datum tandem_guard_nothing([[maybe_unused]] FunctionCallInfo fcinfo) {
    PG_RETURN_VOID();
}

// Processor time of this process, in ns; what /proc tells is as old as the last tick.
extern "C" {
PG_FUNCTION_INFO_V1(tandem_guard_cpu);
}
extern "C" Datum tandem_guard_cpu([[maybe_unused]] FunctionCallInfo fcinfo) {
    timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    PG_RETURN_INT64(int64{now.tv_sec} * 1'000'000'000 + now.tv_nsec);
}
