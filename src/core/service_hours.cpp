#include "core/service_hours.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace tandem {
namespace {

constexpr std::int32_t kMinutesPerDay = 24 * 60;

std::int64_t floor_divide(std::int64_t value, std::int64_t by) {
    return value / by - (value % by < 0 ? 1 : 0);
}

} // namespace

ServiceHours::ServiceHours(std::span<const OpenHours> hours, std::span<const std::int32_t> holidays,
                           std::int32_t monday)
    : holidays_(holidays.begin(), holidays.end()), monday_(monday) {
    std::int32_t last = 0;
    for (const OpenHours& open : hours) {
        if (open.from < last || open.from >= open.to || open.to > kMinutesPerWeek) {
            throw Error("22023", "service hours must ascend within the week, and not overlap");
        }
        last = open.to;
        for (std::int32_t day = open.from / kMinutesPerDay; day * kMinutesPerDay < open.to; day++) {
            const std::int32_t midnight = day * kMinutesPerDay;
            days_[day].push_back({std::max(open.from - midnight, 0), std::min(open.to - midnight, kMinutesPerDay)});
        }
    }
    if (hours.empty()) {
        throw Error("22023", "service hours that never open would never let anything fall due");
    }
    std::sort(holidays_.begin(), holidays_.end());
}

bool ServiceHours::is_holiday(std::int64_t day) const {
    return std::binary_search(holidays_.begin(), holidays_.end(), day);
}

std::int64_t ServiceHours::add_open_time(std::int64_t start, std::int64_t open_time, std::int64_t horizon,
                                         TimeZone zone) const {
    if (open_time <= 0) {
        return start;
    }
    std::int64_t now = start;
    while (now < horizon) {
        // While the offset stays, local time runs as UTC does: the open hours of each local day are cut to this
        // stretch.
        const ZoneOffset offset = zone.offset_at(zone.zone, now);
        const std::int64_t end = std::min(offset.until, horizon);
        while (now < end) {
            const std::int64_t day = floor_divide(now + offset.ahead, kMicrosPerDay);
            const std::int64_t midnight = day * kMicrosPerDay - offset.ahead;
            const std::int64_t day_end = std::min(midnight + kMicrosPerDay, end);
            if (!is_holiday(day)) {
                for (const OpenHours& open : days_[((day - monday_) % 7 + 7) % 7]) {
                    const std::int64_t from = std::max(now, midnight + open.from * kMicrosPerMinute);
                    const std::int64_t to = std::min(day_end, midnight + open.to * kMicrosPerMinute);
                    if (from >= to) {
                        continue;
                    }
                    if (open_time <= to - from) {
                        return from + open_time;
                    }
                    open_time -= to - from;
                }
            }
            now = day_end;
        }
    }
    return horizon;
}

} // namespace tandem
