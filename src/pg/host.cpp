// The host that the server runs on, as far as it may be read: load, processors, memory and the disk of the data
// directory. In a container its control group's limits count, where they are the smaller. What cannot be read is NULL.
#include "pg/prelude.hpp"

#include "core/host_text.hpp"

#include <cstdio>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

namespace pg {
namespace {

namespace host = tandem::host;

constexpr std::size_t kMostBytes = 16 * 1024;
constexpr std::size_t kLongestPath = 1024;

struct File {
    char bytes[kMostBytes];
    std::string_view text;
};

bool read_file(const char* path, File* file) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    std::size_t size = 0;
    for (;;) {
        const ssize_t got = read(fd, file->bytes + size, kMostBytes - size);
        if (got <= 0) {
            break;
        }
        size += static_cast<std::size_t>(got);
        if (size == kMostBytes) {
            break;
        }
    }
    close(fd);
    file->text = {file->bytes, size};
    return size > 0;
}

bool read_group_file(const char* root, std::string_view group, const char* name, File* file) {
    char path[kLongestPath];
    const int length =
        std::snprintf(path, sizeof path, "%s%.*s/%s", root, static_cast<int>(group.size()), group.data(), name);
    return length > 0 && static_cast<std::size_t>(length) < sizeof path && read_file(path, file);
}

struct Facts {
    std::optional<double> load;
    std::optional<double> cpus;
    std::optional<std::int64_t> memory_total;
    std::optional<std::int64_t> memory_available;
    std::optional<std::int64_t> disk_total;
    std::optional<std::int64_t> disk_free;
};
static_assert(std::is_trivially_destructible_v<Facts>);

void limit_memory(Facts* facts, std::optional<std::int64_t> limit, std::optional<std::int64_t> used,
                  std::optional<std::int64_t> reclaimable) {
    if (!limit || (facts->memory_total && *limit >= *facts->memory_total)) {
        return;
    }
    facts->memory_total = limit;
    if (used) {
        const std::int64_t free = *limit - std::min(*limit, *used - std::min(*used, reclaimable.value_or(0)));
        facts->memory_available = facts->memory_available ? std::min(*facts->memory_available, free) : free;
    }
}

// Version 2: this group's limits and those of the groups above it.
void read_groups(std::string_view group, Facts* facts) {
    static constinit File file{};
    constexpr const char* kRoot = "/sys/fs/cgroup";
    for (;;) {
        if (read_group_file(kRoot, group, "cpu.max", &file)) {
            const std::optional<double> cpus = host::read_cpu_max(file.text);
            facts->cpus = cpus && facts->cpus ? std::min(*cpus, *facts->cpus) : facts->cpus;
        }
        if (read_group_file(kRoot, group, "memory.max", &file)) {
            const std::optional<std::int64_t> limit = host::read_limit(file.text);
            const std::optional<std::int64_t> used =
                read_group_file(kRoot, group, "memory.current", &file) ? host::read_limit(file.text) : std::nullopt;
            const std::optional<std::int64_t> cache = read_group_file(kRoot, group, "memory.stat", &file)
                                                          ? host::read_stat(file.text, "inactive_file")
                                                          : std::nullopt;
            limit_memory(facts, limit, used, cache);
        }
        const std::size_t slash = group.rfind('/');
        if (group.empty() || slash == std::string_view::npos) {
            return;
        }
        group = group.substr(0, slash);
    }
}

// Version 1: memory.stat knows the limit of the groups above, too.
void read_memory_group(std::string_view group, Facts* facts) {
    static constinit File file{};
    constexpr const char* kRoot = "/sys/fs/cgroup/memory";
    if (!read_group_file(kRoot, group, "memory.stat", &file)) {
        group = ""; // the group's path is that outside of the container, where its files are at the root
        if (!read_group_file(kRoot, group, "memory.stat", &file)) {
            return;
        }
    }
    std::optional<std::int64_t> limit = host::read_stat(file.text, "hierarchical_memory_limit");
    constexpr std::int64_t kNoLimit = std::int64_t{1} << 60;
    limit = limit && *limit < kNoLimit ? limit : std::nullopt;
    const std::optional<std::int64_t> cache = host::read_stat(file.text, "total_inactive_file");
    const std::optional<std::int64_t> used =
        read_group_file(kRoot, group, "memory.usage_in_bytes", &file) ? host::read_limit(file.text) : std::nullopt;
    limit_memory(facts, limit, used, cache);
}

void read_cpu_group(std::string_view group, Facts* facts) {
    static constinit File file{};
    constexpr const char* kRoot = "/sys/fs/cgroup/cpu";
    const auto number = [&](const char* name) {
        return read_group_file(kRoot, group, name, &file) || read_group_file(kRoot, "", name, &file)
                   ? host::read_limit(file.text)
                   : std::nullopt;
    };
    const std::optional<std::int64_t> quota = number("cpu.cfs_quota_us"); // -1: none
    const std::optional<std::int64_t> period = number("cpu.cfs_period_us");
    if (facts->cpus && quota && period && *quota > 0 && *period > 0) {
        facts->cpus = std::min(*facts->cpus, static_cast<double>(*quota) / static_cast<double>(*period));
    }
}

Facts read_facts() {
    static constinit File file{}; // 16 kB, and not on the stack
    Facts facts{};
    if (read_file("/proc/loadavg", &file)) {
        facts.load = host::read_load(file.text);
    }
    const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    if (cpus > 0) {
        facts.cpus = static_cast<double>(cpus);
    }
    if (read_file("/proc/meminfo", &file)) {
        facts.memory_total = host::read_meminfo(file.text, "MemTotal");
        facts.memory_available = host::read_meminfo(file.text, "MemAvailable");
    }
    if (read_file("/proc/self/cgroup", &file)) {
        if (const auto group = host::find_group(file.text, "")) {
            read_groups(*group == "/" ? std::string_view("") : *group, &facts);
        }
        if (const auto group = host::find_group(file.text, "memory")) {
            read_memory_group(*group == "/" ? std::string_view("") : *group, &facts);
        }
        if (const auto group = host::find_group(file.text, "cpu")) {
            read_cpu_group(*group == "/" ? std::string_view("") : *group, &facts);
        }
    }
    struct statvfs disk {};
    if (statvfs(DataDir, &disk) == 0 && disk.f_frsize > 0) {
        facts.disk_total = static_cast<std::int64_t>(disk.f_blocks) * static_cast<std::int64_t>(disk.f_frsize);
        facts.disk_free = static_cast<std::int64_t>(disk.f_bavail) * static_cast<std::int64_t>(disk.f_frsize);
    }
    return facts;
}

Datum host_facts(FunctionCallInfo fcinfo) {
    const Facts facts = read_facts();
    TupleDesc desc = nullptr;
    if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) {
        elog(ERROR, "return type must be a row type");
    }
    Datum values[6] = {Float8GetDatum(facts.load.value_or(0)),        Float8GetDatum(facts.cpus.value_or(0)),
                       Int64GetDatum(facts.memory_total.value_or(0)), Int64GetDatum(facts.memory_available.value_or(0)),
                       Int64GetDatum(facts.disk_total.value_or(0)),   Int64GetDatum(facts.disk_free.value_or(0))};
    bool nulls[6] = {!facts.load,       !facts.cpus,     !facts.memory_total, !facts.memory_available,
                     !facts.disk_total, !facts.disk_free};
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

} // namespace
} // namespace pg

TANDEM_FUNCTION(tandem_host_facts) {
    return pg::entry([&] { return pg::host_facts(fcinfo); });
}
