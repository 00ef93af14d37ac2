// The tests of core/judge_* for SQL. Arguments that are NULL where nothing was measured are no data; NULLs within an
// array are left out. Core is called with plain copies, and what it answers is copied before anything may raise an
// ERROR.
#include "core/judge_burn.hpp" // before PostgreSQL's headers
#include "core/judge_history.hpp"
#include "core/judge_proportion.hpp"
#include "core/judge_quantile.hpp"
#include "core/judge_rank.hpp"

#include "pg/prelude.hpp"

extern "C" {
#include "utils/array.h"
}

namespace pg {
namespace {

// A one-dimensional array without its NULLs; nulls says where they were.
template <class T>
struct List {
    T* values;
    std::size_t size;  // without NULLs
    std::size_t all;   // with them
    const bool* nulls; // of all
    std::span<const T> span() const { return {values, size}; }
};

template <class T>
T value_of(Datum datum) {
    if constexpr (std::is_same_v<T, double>) {
        return DatumGetFloat8(datum);
    } else {
        return DatumGetInt64(datum); // bigint and timestamp
    }
}

template <class T>
List<T> list_of(FunctionCallInfo fcinfo, int n, const char* name) {
    if (PG_ARGISNULL(n)) {
        return {nullptr, 0, 0, nullptr};
    }
    ArrayType* array = PG_GETARG_ARRAYTYPE_P(n);
    if (ARR_NDIM(array) > 1) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must be a plain array", name),
                        errdetail("It has %d dimensions.", ARR_NDIM(array))));
    }
    Datum* datums = nullptr;
    bool* nulls = nullptr;
    int count = 0;
    static_assert(FLOAT8PASSBYVAL);
    deconstruct_array(array, ARR_ELEMTYPE(array), sizeof(T), true, TYPALIGN_DOUBLE, &datums, &nulls, &count);
    auto* values = static_cast<T*>(palloc(sizeof(T) * static_cast<std::size_t>(count)));
    std::size_t kept = 0;
    for (int i = 0; i < count; i++) {
        if (!nulls[i]) {
            values[kept++] = value_of<T>(datums[i]);
        }
    }
    return {values, kept, static_cast<std::size_t>(count), nulls};
}

void require(FunctionCallInfo fcinfo, int first, const char* what) {
    for (int i = first; i < PG_NARGS(); i++) {
        if (PG_ARGISNULL(i)) {
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument %d may not be null", i + 1),
                            errhint("%s", what)));
        }
    }
}

// Counts: none where NULL, as sum() says it over no rows; but not bad ones of which nobody knows how many.
tandem::Tally tally_of(FunctionCallInfo fcinfo, int n) {
    const int64 all = PG_ARGISNULL(n) ? 0 : PG_GETARG_INT64(n);
    if (PG_ARGISNULL(n + 1) && all != 0) {
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                        errmsg("how many of " INT64_FORMAT " were bad may not be null", all), errhint("0 for none.")));
    }
    return {all, PG_ARGISNULL(n + 1) ? 0 : PG_GETARG_INT64(n + 1)};
}

// One row of an answer, made column by column. Holds nothing to destroy.
class Answer {
  public:
    explicit Answer(FunctionCallInfo fcinfo) {
        call([&] {
            if (get_call_result_type(fcinfo, nullptr, &desc_) != TYPEFUNC_COMPOSITE || desc_->natts > kMost) {
                elog(ERROR, "return type must be a row type");
            }
            desc_ = BlessTupleDesc(desc_);
        });
    }
    Answer& text(const char* value) {
        Datum datum = 0;
        if (value != nullptr) {
            datum = call([&] { return CStringGetTextDatum(value); });
        }
        return add(datum, value == nullptr);
    }
    Answer& number(double value) { return add(Float8GetDatum(value), std::isnan(value)); } // NaN: there is none
    Answer& count(std::int64_t value) { return add(Int64GetDatum(value), false); }
    Datum row() {
        return call([&] { return HeapTupleGetDatum(heap_form_tuple(desc_, values_, nulls_)); });
    }

  private:
    static constexpr int kMost = 10;
    Answer& add(Datum value, bool isnull) {
        values_[columns_] = value;
        nulls_[columns_++] = isnull;
        return *this;
    }
    TupleDesc desc_ = nullptr;
    Datum values_[kMost];
    bool nulls_[kMost];
    int columns_ = 0;
};

Datum proportions(FunctionCallInfo fcinfo) {
    require(fcinfo, 4,
            "tandem.judge_proportions(legacy_n, legacy_bad, new_n, new_bad, alpha, min_samples, min_difference)");
    const tandem::Tally legacy = tally_of(fcinfo, 0);
    const tandem::Tally now = tally_of(fcinfo, 2);
    const tandem::ProportionOptions options{PG_GETARG_FLOAT8(4), PG_GETARG_INT64(5), PG_GETARG_FLOAT8(6)};
    const auto j = tandem::judge_proportions(legacy, now, options);
    return Answer(fcinfo)
        .text(name(j.verdict))
        .number(j.legacy_rate)
        .number(j.new_rate)
        .number(j.lower)
        .number(j.upper)
        .number(j.p_value)
        .text(j.method)
        .text(j.reason.c_str())
        .row();
}

Datum quantile(FunctionCallInfo fcinfo) {
    for (int i = 2; i < 6; i++) {
        if (PG_ARGISNULL(i)) {
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument %d may not be null", i + 1),
                            errhint("tandem.judge_quantile(legacy, new, quantile, max_ratio, alpha, min_samples, "
                                    "legacy_counts, new_counts)")));
        }
    }
    const List<double> legacy = list_of<double>(fcinfo, 0, "legacy");
    const List<double> now = list_of<double>(fcinfo, 1, "new");
    const List<std::int64_t> legacy_counts = list_of<std::int64_t>(fcinfo, 6, "legacy_counts");
    const List<std::int64_t> now_counts = list_of<std::int64_t>(fcinfo, 7, "new_counts");
    for (const int side : {0, 1}) {
        const List<double>& values = side == 0 ? legacy : now;
        const List<std::int64_t>& counts = side == 0 ? legacy_counts : now_counts;
        if (!PG_ARGISNULL(6 + side) &&
            (values.all != counts.all || values.size != values.all || counts.size != counts.all)) {
            ereport(ERROR,
                    (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                     errmsg("%s has %zu values and %zu counts", side == 0 ? "legacy" : "new", values.size, counts.size),
                     errhint("Give one count for each value, and leave NULLs out of both arrays.")));
        }
    }
    const tandem::QuantileOptions options{PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3), PG_GETARG_FLOAT8(4),
                                          PG_GETARG_INT64(5)};
    const auto l = tandem::weighted(legacy.span(), legacy_counts.span(), "legacy");
    const auto n = tandem::weighted(now.span(), now_counts.span(), "new");
    const auto j = tandem::judge_quantile(l, n, options);
    return Answer(fcinfo)
        .text(name(j.verdict))
        .number(j.legacy)
        .number(j.now)
        .number(j.ratio)
        .number(j.lower)
        .number(j.upper)
        .text(j.reason.c_str())
        .row();
}

Datum mann_whitney(FunctionCallInfo fcinfo) {
    require(fcinfo, 2, "tandem.judge_mann_whitney(legacy, new, alpha, min_effect, min_samples)");
    const List<double> legacy = list_of<double>(fcinfo, 0, "legacy");
    const List<double> now = list_of<double>(fcinfo, 1, "new");
    const auto j = tandem::judge_mann_whitney(legacy.span(), now.span(),
                                              {PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3), PG_GETARG_INT64(4)});
    return Answer(fcinfo)
        .text(name(j.verdict))
        .number(j.u)
        .number(j.effect)
        .number(j.p_value)
        .text(j.method)
        .text(j.reason.c_str())
        .row();
}

Datum history(FunctionCallInfo fcinfo, bool robust) {
    require(fcinfo, 2,
            robust ? "tandem.judge_mad(value, history, min_days, threshold, worse, logarithms)"
                   : "tandem.judge_z_score(value, history, min_days, threshold, worse)");
    const double value = PG_ARGISNULL(0) ? std::nan("") : PG_GETARG_FLOAT8(0);
    const List<double> points = list_of<double>(fcinfo, 1, "history");
    const char* worse = text_to_cstring(PG_GETARG_TEXT_PP(4));
    const tandem::HistoryOptions options{PG_GETARG_INT32(2), PG_GETARG_FLOAT8(3), tandem::parse_worse(worse),
                                         robust && PG_GETARG_BOOL(5)};
    const auto j = robust ? tandem::judge_mad(value, points.span(), options)
                          : tandem::judge_z_score(value, points.span(), options);
    return Answer(fcinfo)
        .text(name(j.verdict))
        .number(j.score)
        .number(j.center)
        .number(j.spread)
        .count(j.points)
        .text(j.reason.c_str())
        .row();
}

Datum float8_array(std::span<const double> values) {
    auto* datums = static_cast<Datum*>(palloc(sizeof(Datum) * std::max<std::size_t>(values.size(), 1)));
    for (std::size_t i = 0; i < values.size(); i++) {
        datums[i] = Float8GetDatum(values[i]);
    }
    return PointerGetDatum(construct_array(datums, static_cast<int>(values.size()), FLOAT8OID, sizeof(float8),
                                           FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

Datum season(FunctionCallInfo fcinfo) {
    const List<std::int64_t> times = list_of<std::int64_t>(fcinfo, 1, "history_at");
    const List<double> values = list_of<double>(fcinfo, 2, "history");
    if (PG_ARGISNULL(0) || PG_ARGISNULL(3) || times.size != times.all || times.all != values.all) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("every value of the history needs its time"),
                        errdetail("There are %zu values and %zu times.", values.all, times.size)));
    }
    // Days are counted from a Saturday, and what counts is only that weeks begin alike.
    auto* at = static_cast<std::int64_t*>(palloc(sizeof(std::int64_t) * std::max<std::size_t>(values.size, 1)));
    std::size_t kept = 0;
    for (std::size_t i = 0; i < values.all; i++) {
        if (TIMESTAMP_NOT_FINITE(times.values[i])) {
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("infinity is no time of a measurement")));
        }
        if (!values.nulls[i]) {
            at[kept++] = times.values[i];
        }
    }
    const auto s = tandem::season(PG_GETARG_INT64(0), {at, kept}, values.span(), PG_GETARG_INT32(3));
    TupleDesc desc = nullptr;
    return call([&] {
        if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) {
            elog(ERROR, "return type must be a row type");
        }
        Datum columns[2] = {CStringGetTextDatum(s.name), float8_array(s.values)};
        bool nulls[2] = {};
        return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), columns, nulls));
    });
}

Datum judge_burn(FunctionCallInfo fcinfo) {
    require(fcinfo, 0, "tandem.judge_burn_rate(objective, n, bad, min_samples)");
    const List<std::int64_t> n = list_of<std::int64_t>(fcinfo, 1, "n");
    const List<std::int64_t> bad = list_of<std::int64_t>(fcinfo, 2, "bad");
    if (n.all != 4 || bad.all != 4 || n.size != 4 || bad.size != 4) {
        ereport(
            ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("n and bad are the counts of four windows"),
             errdetail("n has %zu, bad has %zu.", n.size, bad.size),
             errhint("Fast long, fast short, slow long, slow short: tandem.burn_windows() says how long they are.")));
    }
    const auto j = tandem::judge_burn_rate(PG_GETARG_FLOAT8(0),
                                           {{{{{n.values[0], bad.values[0]}, {n.values[1], bad.values[1]}}},
                                             {{{n.values[2], bad.values[2]}, {n.values[3], bad.values[3]}}}}},
                                           PG_GETARG_INT64(3));
    return Answer(fcinfo)
        .text(name(j.verdict))
        .text(j.pair)
        .number(j.long_rate)
        .number(j.short_rate)
        .text(j.reason.c_str())
        .row();
}

} // namespace
} // namespace pg

TANDEM_FUNCTION(tandem_judge_proportions) {
    return pg::entry([&] { return pg::proportions(fcinfo); });
}

TANDEM_FUNCTION(tandem_judge_quantile) {
    return pg::entry([&] { return pg::quantile(fcinfo); });
}

TANDEM_FUNCTION(tandem_judge_mann_whitney) {
    return pg::entry([&] { return pg::mann_whitney(fcinfo); });
}

TANDEM_FUNCTION(tandem_judge_z_score) {
    return pg::entry([&] { return pg::history(fcinfo, false); });
}

TANDEM_FUNCTION(tandem_judge_mad) {
    return pg::entry([&] { return pg::history(fcinfo, true); });
}

TANDEM_FUNCTION(tandem_seasonal_history) {
    return pg::entry([&] { return pg::season(fcinfo); });
}

TANDEM_FUNCTION(tandem_burn_rate) {
    return pg::entry([&]() -> Datum {
        if (PG_ARGISNULL(2)) {
            PG_RETURN_NULL();
        }
        const double rate = tandem::burn_rate(pg::tally_of(fcinfo, 0), PG_GETARG_FLOAT8(2));
        if (std::isnan(rate)) {
            PG_RETURN_NULL();
        }
        PG_RETURN_FLOAT8(rate);
    });
}

TANDEM_FUNCTION(tandem_judge_burn_rate) {
    return pg::entry([&] { return pg::judge_burn(fcinfo); });
}
