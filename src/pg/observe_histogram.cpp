// Histograms in SQL: bytea as core/histogram writes it, their sum as an aggregate, their percentiles in milliseconds.
#include "pg/observe.hpp"

namespace {

std::span<const std::byte> bytes_of(bytea* value) {
    return {reinterpret_cast<const std::byte*>(VARDATA_ANY(value)), VARSIZE_ANY_EXHDR(value)};
}

static_assert(std::is_trivially_copyable_v<tandem::Histogram> && std::is_trivially_destructible_v<tandem::Histogram>);

tandem::Histogram* new_histogram(MemoryContext context) {
    return new (MemoryContextAlloc(context, sizeof(tandem::Histogram))) tandem::Histogram{};
}

// A percentile lies in the middle of its bucket, which may be beyond the largest of all.
Datum milliseconds(double us, int64 longest) {
    return Float8GetDatum(std::min(us, static_cast<double>(longest)) / 1000);
}

} // namespace

// Transition: (state internal, histogram bytea). NULL adds nothing.
TANDEM_FUNCTION(tandem_histogram_add) {
    return pg::entry([&]() -> Datum {
        MemoryContext context = nullptr;
        if (AggCheckCallContext(fcinfo, &context) == 0) {
            elog(ERROR, "histogram_add() is called by histogram_sum() only");
        }
        auto* state =
            PG_ARGISNULL(0) ? new_histogram(context) : reinterpret_cast<tandem::Histogram*>(PG_GETARG_POINTER(0));
        if (!PG_ARGISNULL(1)) {
            bytea* value = PG_GETARG_BYTEA_PP(1);
            merge_serialised(*state, bytes_of(value));
        }
        PG_RETURN_POINTER(state);
    });
}

TANDEM_FUNCTION(tandem_histogram_final) {
    return pg::entry([&]() -> Datum {
        if (PG_ARGISNULL(0)) {
            PG_RETURN_NULL();
        }
        auto* result = static_cast<bytea*>(palloc(VARHDRSZ + tandem::kHistogramBytes));
        const std::size_t size = serialise(*reinterpret_cast<tandem::Histogram*>(PG_GETARG_POINTER(0)),
                                           reinterpret_cast<std::byte*>(VARDATA(result)));
        SET_VARSIZE(result, VARHDRSZ + size);
        PG_RETURN_BYTEA_P(result);
    });
}

// histogram_percentiles(histogram, shares, longest in µs) → milliseconds, NULL for each where there is none
TANDEM_FUNCTION(tandem_histogram_percentiles) {
    return pg::entry([&]() -> Datum {
        if (PG_ARGISNULL(0) || PG_ARGISNULL(1)) {
            PG_RETURN_NULL();
        }
        bytea* value = PG_GETARG_BYTEA_PP(0);
        ArrayType* shares = PG_GETARG_ARRAYTYPE_P(1);
        const int64 longest = PG_ARGISNULL(2) ? PG_INT64_MAX : PG_GETARG_INT64(2);
        auto* histogram = new_histogram(CurrentMemoryContext);
        merge_serialised(*histogram, bytes_of(value));
        Datum* given = nullptr;
        bool* nulls = nullptr;
        int count = 0;
        deconstruct_array(shares, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, 'd', &given, &nulls, &count);
        auto* results = static_cast<Datum*>(palloc(sizeof(Datum) * (count + 1)));
        for (int i = 0; i < count; i++) {
            const auto us = nulls[i] ? std::nullopt : histogram->percentile(DatumGetFloat8(given[i]));
            nulls[i] = !us.has_value();
            results[i] = nulls[i] ? Datum{0} : milliseconds(*us, longest);
        }
        pfree(histogram);
        int size[1] = {count};
        int lower[1] = {1};
        PG_RETURN_ARRAYTYPE_P(
            construct_md_array(results, nulls, 1, size, lower, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, 'd'));
    });
}

TANDEM_FUNCTION(tandem_histogram_count) {
    return pg::entry([&]() -> Datum {
        auto* histogram = new_histogram(CurrentMemoryContext);
        merge_serialised(*histogram, bytes_of(PG_GETARG_BYTEA_PP(0)));
        const auto count = static_cast<int64>(histogram->count());
        pfree(histogram);
        PG_RETURN_INT64(count);
    });
}

// histogram_buckets(histogram) → (from µs, to µs, n)
TANDEM_FUNCTION(tandem_histogram_buckets) {
    return pg::entry([&]() -> Datum {
        InitMaterializedSRF(fcinfo, 0);
        auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
        auto* histogram = new_histogram(CurrentMemoryContext);
        merge_serialised(*histogram, bytes_of(PG_GETARG_BYTEA_PP(0)));
        for (unsigned i = 0; i < tandem::kHistogramBuckets; i++) {
            if (histogram->count_in(i) == 0) {
                continue;
            }
            const tandem::HistogramRange range = tandem::histogram_range(i);
            Datum values[] = {Float8GetDatum(static_cast<double>(range.first) / 1000),
                              Float8GetDatum(static_cast<double>(range.last) / 1000),
                              Int64GetDatum(static_cast<int64>(histogram->count_in(i)))};
            bool nulls[3] = {};
            tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
        }
        pfree(histogram);
        return Datum{0};
    });
}
