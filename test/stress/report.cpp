#include "report.hpp"

#include <cstdarg>
#include <cstdio>

namespace stress {

namespace {

[[gnu::format(printf, 2, 3)]] void add(std::string& text, const char* format, ...) {
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it is initialized a line above
    std::vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    text += line;
}

using Count = unsigned long long;

double per(double amount, double of) {
    return of > 0 ? amount / of : 0;
}
double per(std::uint64_t amount, double of) {
    return per(static_cast<double>(amount), of);
}

double success_rate(const Statistics& statistics) {
    const auto answered = static_cast<double>(statistics.calls());
    return answered > 0 ? 100 * answered / (answered + static_cast<double>(statistics.errors())) : 0;
}

std::string quoted(const std::string& text) {
    std::string json = "\"";
    for (const char character : text) {
        if (character == '"' || character == '\\') {
            json += '\\';
            json += character;
        } else if (static_cast<unsigned char>(character) < 0x20) {
            add(json, "\\u%04x", static_cast<unsigned>(character));
        } else {
            json += character;
        }
    }
    return json + '"';
}

std::uint64_t violated(const Checked& checked) {
    std::uint64_t count = 0;
    for (const Verdict& verdict : checked.verdicts) {
        count += verdict.violations > 0 ? 1 : 0;
    }
    return count;
}

} // namespace

std::vector<std::string> Report::reasons() const {
    std::vector<std::string> reasons;
    if (total.calls() == 0) {
        reasons.emplace_back("nothing was done");
    }
    if (total.errors() > 0) {
        reasons.push_back(std::to_string(total.errors()) + (total.errors() == 1 ? " error" : " errors"));
    }
    for (const Verdict& verdict : checked.verdicts) {
        if (verdict.violations > 0) {
            reasons.push_back("violated: " + verdict.invariant);
        }
    }
    return reasons;
}

std::string Report::text() const {
    std::string text;
    add(text, "\nReadiness report: %s, PostgreSQL %s, seed %llu, kinds %s.*\n\n", name_of(options.command),
        server.version.c_str(), static_cast<Count>(options.seed), run.c_str());
    add(text, "%-24s %8s %8s %9s %10s %10s %8s %9s %10s\n", "phase", "threads", "seconds", "calls/s", "changes/s",
        "finished/s", "errors", "conflicts", "p99 ms");
    for (const PhaseResult& phase : phases) {
        Histogram all;
        for (std::size_t i = 1; i < kOperations; ++i) { // without connecting
            all.merge(phase.statistics.of(static_cast<Operation>(i)).latency);
        }
        const OperationStatistics& finish = phase.statistics.of(Operation::finish);
        add(text, "%-24s %8d %8.1f %9.0f %10.0f %10.0f %8llu %9llu %10.2f\n", phase.name.c_str(), phase.threads,
            phase.seconds, per(phase.statistics.calls(), phase.seconds), per(phase.statistics.changes(), phase.seconds),
            per(finish.latency.count() - finish.conflicts, phase.seconds),
            static_cast<Count>(phase.statistics.errors()), static_cast<Count>(phase.statistics.conflicts()),
            all.percentile_ms(0.99));
    }
    add(text, "\n%-24s %10s %10s %10s %8s %9s %9s %9s %9s\n", "operation", "calls", "conflicts", "cancelled", "errors",
        "p50 ms", "p95 ms", "p99 ms", "max ms");
    for (std::size_t i = 0; i < kOperations; ++i) {
        const OperationStatistics& operation = total.of(static_cast<Operation>(i));
        if (operation.latency.count() + operation.errors == 0) {
            continue;
        }
        add(text, "%-24s %10llu %10llu %10llu %8llu %9.2f %9.2f %9.2f %9.2f\n", kOperationNames[i].data(),
            static_cast<Count>(operation.latency.count()), static_cast<Count>(operation.conflicts),
            static_cast<Count>(operation.cancelled), static_cast<Count>(operation.errors),
            operation.latency.percentile_ms(0.5), operation.latency.percentile_ms(0.95),
            operation.latency.percentile_ms(0.99), operation.latency.max_ms());
    }
    const auto changes = static_cast<double>(total.changes());
    add(text, "\n%-44s %.3f %%\n", "success rate (calls that were answered)", success_rate(total));
    add(text, "%-44s %.0f calls, %.0f accepted changes\n", "throughput, per second", per(total.calls(), seconds),
        per(changes, seconds));
    add(text, "%-44s %.0f (%.0f full pages in all)\n", "WAL bytes per accepted change", per(server.wal_bytes, changes),
        server.wal_full_pages);
    add(text, "%-44s %.0f dead; %.2f %% of %.0f updates HOT; %.0f autovacuums\n", "rows of tandem.task",
        server.dead_tuples, 100 * per(server.hot_updates, server.updates), server.updates, server.autovacuums);
    add(text, "%-44s %.2f on average, %.0f at most; %.0f deadlocks\n", "sessions waiting for a lock",
        server.mean_waiting, server.most_waiting, server.deadlocks);
    add(text, "%-44s %llu; detected after %.1f ms (p50), %.1f ms (p99), %.1f ms (max)\n", "breaches",
        static_cast<Count>(checked.breaches.breaches), checked.breaches.p50_ms, checked.breaches.p99_ms,
        checked.breaches.max_ms);
    add(text, "%-44s %llu tasks, %llu events\n\n", "compared with the clients' own ledgers",
        static_cast<Count>(checked.tasks), static_cast<Count>(checked.events));
    for (const Verdict& verdict : checked.verdicts) {
        add(text, "  %-8s %s\n", verdict.violations == 0 ? "holds" : "VIOLATED", verdict.invariant.c_str());
        if (verdict.violations > 0) {
            add(text, "           %llu times, such as: %s\n", static_cast<Count>(verdict.violations),
                verdict.evidence.c_str());
        }
    }
    for (const auto& [error, count] : total.error_texts()) {
        add(text, "  ERROR    %llu times: %s\n", static_cast<Count>(count), error.c_str());
    }
    const std::vector<std::string> why = reasons();
    text += why.empty() ? "\nREADY: no error, every invariant holds.\n" : "\nNOT READY:\n";
    for (const std::string& reason : why) {
        text += "  " + reason + '\n';
    }
    return text;
}

std::string Report::json() const {
    std::string json = "{";
    const std::vector<std::string> why = reasons();
    add(json, R"("command": "%s", "seed": %llu, "run": %s, "server_version": %s, "ready": %s, "reasons": [)",
        name_of(options.command), static_cast<Count>(options.seed), quoted(run).c_str(), quoted(server.version).c_str(),
        why.empty() ? "true" : "false");
    for (std::size_t i = 0; i < why.size(); ++i) {
        json += (i > 0 ? ", " : "") + quoted(why[i]);
    }
    add(json,
        R"(], "seconds": %.3f, "calls": %llu, "changes": %llu, "conflicts": %llu, "errors": %llu, "success_rate": %.4f)",
        seconds, static_cast<Count>(total.calls()), static_cast<Count>(total.changes()),
        static_cast<Count>(total.conflicts()), static_cast<Count>(total.errors()), success_rate(total));
    add(json,
        R"(, "wal_bytes_per_change": %.1f, "wal_full_pages": %.0f, "dead_tuples": %.0f, "updates": %.0f, "hot_updates": %.0f)",
        per(server.wal_bytes, static_cast<double>(total.changes())), server.wal_full_pages, server.dead_tuples,
        server.updates, server.hot_updates);
    add(json, R"(, "autovacuums": %.0f, "deadlocks": %.0f, "waiting_mean": %.3f, "waiting_max": %.0f)",
        server.autovacuums, server.deadlocks, server.mean_waiting, server.most_waiting);
    add(json,
        R"(, "breaches": %llu, "breach_p50_ms": %.2f, "breach_p99_ms": %.2f, "breach_max_ms": %.2f, "tasks": %llu, "events": %llu)",
        static_cast<Count>(checked.breaches.breaches), checked.breaches.p50_ms, checked.breaches.p99_ms,
        checked.breaches.max_ms, static_cast<Count>(checked.tasks), static_cast<Count>(checked.events));
    json += R"(, "phases": [)";
    for (std::size_t i = 0; i < phases.size(); ++i) {
        const PhaseResult& phase = phases[i];
        const OperationStatistics& finish = phase.statistics.of(Operation::finish);
        add(json,
            R"(%s{"phase": %s, "threads": %d, "seconds": %.3f, "calls": %llu, "changes": %llu, "finished": %llu, "errors": %llu})",
            i > 0 ? ", " : "", quoted(phase.name).c_str(), phase.threads, phase.seconds,
            static_cast<Count>(phase.statistics.calls()), static_cast<Count>(phase.statistics.changes()),
            static_cast<Count>(finish.latency.count() - finish.conflicts),
            static_cast<Count>(phase.statistics.errors()));
    }
    json += R"(], "operations": {)";
    for (std::size_t i = 0; i < kOperations; ++i) {
        const OperationStatistics& operation = total.of(static_cast<Operation>(i));
        add(json,
            R"(%s"%s": {"calls": %llu, "conflicts": %llu, "cancelled": %llu, "errors": %llu, "p50_ms": %.3f, "p95_ms": %.3f, "p99_ms": %.3f, "max_ms": %.3f})",
            i > 0 ? ", " : "", kOperationNames[i].data(), static_cast<Count>(operation.latency.count()),
            static_cast<Count>(operation.conflicts), static_cast<Count>(operation.cancelled),
            static_cast<Count>(operation.errors), operation.latency.percentile_ms(0.5),
            operation.latency.percentile_ms(0.95), operation.latency.percentile_ms(0.99), operation.latency.max_ms());
    }
    add(json, R"(}, "violated": %llu, "invariants": [)", static_cast<Count>(violated(checked)));
    for (std::size_t i = 0; i < checked.verdicts.size(); ++i) {
        const Verdict& verdict = checked.verdicts[i];
        json += (i > 0 ? ", " : "") + std::string("{\"invariant\": ") + quoted(verdict.invariant) +
                ", \"violations\": " + std::to_string(verdict.violations) +
                ", \"evidence\": " + quoted(verdict.evidence) + "}";
    }
    json += "], \"error_texts\": [";
    bool first = true;
    for (const auto& [error, count] : total.error_texts()) {
        json += (first ? "" : ", ") + std::string("{\"error\": ") + quoted(error) +
                ", \"count\": " + std::to_string(count) + "}";
        first = false;
    }
    return json + "]}\n";
}

} // namespace stress
