#include "core/host_text.hpp"

#include <charconv>
#include <cmath>
#include <system_error>

namespace tandem::host {
namespace {

constexpr std::string_view kBlanks = " \t";

// Takes the first line off.
std::string_view take_line(std::string_view& text) noexcept {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    return line;
}

// Takes the next word off a line.
std::string_view take_word(std::string_view& line) noexcept {
    const std::size_t first = line.find_first_not_of(kBlanks);
    if (first == std::string_view::npos) {
        line = {};
        return {};
    }
    line.remove_prefix(first);
    const std::size_t end = line.find_first_of(kBlanks);
    const std::string_view word = line.substr(0, end);
    line.remove_prefix(word.size());
    return word;
}

template <class Number>
std::optional<Number> number(std::string_view word) noexcept {
    Number value{};
    const std::from_chars_result result = std::from_chars(word.data(), word.data() + word.size(), value);
    if (word.empty() || result.ec != std::errc{} || result.ptr != word.data() + word.size() || value < 0) {
        return std::nullopt;
    }
    return value;
}

constexpr std::int64_t kNoLimit = std::int64_t{1} << 60;

} // namespace

std::optional<double> read_load(std::string_view loadavg) noexcept {
    std::string_view line = take_line(loadavg);
    const std::optional<double> load = number<double>(take_word(line));
    return load && std::isfinite(*load) ? load : std::nullopt;
}

std::optional<std::int64_t> read_meminfo(std::string_view meminfo, std::string_view name) noexcept {
    while (!meminfo.empty()) {
        std::string_view line = take_line(meminfo);
        std::string_view word = take_word(line);
        if (word.ends_with(':') && word.substr(0, word.size() - 1) == name) {
            const std::optional<std::int64_t> kib = number<std::int64_t>(take_word(line));
            return kib && *kib < kNoLimit / 1024 ? std::optional(*kib * 1024) : std::nullopt;
        }
    }
    return std::nullopt;
}

std::optional<std::int64_t> read_stat(std::string_view stat, std::string_view name) noexcept {
    while (!stat.empty()) {
        std::string_view line = take_line(stat);
        if (take_word(line) == name) {
            return number<std::int64_t>(take_word(line));
        }
    }
    return std::nullopt;
}

std::optional<std::int64_t> read_limit(std::string_view text) noexcept {
    std::string_view line = take_line(text);
    const std::optional<std::int64_t> limit = number<std::int64_t>(take_word(line));
    return limit && *limit < kNoLimit ? limit : std::nullopt;
}

std::optional<double> read_cpu_max(std::string_view text) noexcept {
    std::string_view line = take_line(text);
    const std::optional<std::int64_t> quota = number<std::int64_t>(take_word(line));
    const std::optional<std::int64_t> period = number<std::int64_t>(take_word(line));
    if (!quota || !period || *quota == 0 || *period == 0) {
        return std::nullopt;
    }
    return static_cast<double>(*quota) / static_cast<double>(*period);
}

std::optional<std::string_view> find_group(std::string_view cgroup, std::string_view controller) noexcept {
    while (!cgroup.empty()) {
        const std::string_view line = take_line(cgroup); // "4:memory:/a/b", "0::/a/b"
        const std::size_t first = line.find(':');
        const std::size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
        if (second == std::string_view::npos) {
            continue;
        }
        std::string_view names = line.substr(first + 1, second - first - 1);
        const std::string_view path = line.substr(second + 1);
        if (!path.starts_with('/') || path.find("/..") != std::string_view::npos) {
            continue; // a group outside of what this namespace shows
        }
        if (controller.empty()) {
            if (names.empty()) {
                return path;
            }
            continue;
        }
        while (!names.empty()) {
            const std::size_t comma = names.find(',');
            if (names.substr(0, comma) == controller) {
                return path;
            }
            names.remove_prefix(comma == std::string_view::npos ? names.size() : comma + 1);
        }
    }
    return std::nullopt;
}

} // namespace tandem::host
