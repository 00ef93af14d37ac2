// What Linux writes about the host into /proc and /sys/fs/cgroup. Text that is not as expected is nothing, never an
// error: other systems have other files, and containers hide some.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace tandem::host {

// The load of the last minute, from /proc/loadavg.
std::optional<double> read_load(std::string_view loadavg) noexcept;

// Bytes, from a line "MemAvailable:   123 kB" of /proc/meminfo.
std::optional<std::int64_t> read_meminfo(std::string_view meminfo, std::string_view name) noexcept;

// A number in a line "name 123" of memory.stat.
std::optional<std::int64_t> read_stat(std::string_view stat, std::string_view name) noexcept;

// A limit of a control group in bytes; nothing for "max", and for the huge number that says the same in version 1.
std::optional<std::int64_t> read_limit(std::string_view text) noexcept;

// Processors, from cpu.max ("200000 100000": two).
std::optional<double> read_cpu_max(std::string_view text) noexcept;

// The path of a controller's group in /proc/self/cgroup, as "/a/b"; the empty name is version 2's one hierarchy.
std::optional<std::string_view> find_group(std::string_view cgroup, std::string_view controller) noexcept;

} // namespace tandem::host
