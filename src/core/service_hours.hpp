// Service hours: the hours of the week in which an SLA clock runs, in a time zone, without holidays. add_open_time()
// says when a clock that is started at some moment has run for some time.
//
// Times are microseconds of UTC from any epoch whose day 0 is given; a minute is open where the local clock shows an
// open hour. So the hour that a time zone has twice in autumn counts twice, and the one that it leaves out in spring
// not at all.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tandem {

inline constexpr std::int64_t kMicrosPerSecond = 1'000'000;
inline constexpr std::int64_t kMicrosPerMinute = 60 * kMicrosPerSecond;
inline constexpr std::int64_t kMicrosPerDay = std::int64_t{24} * 60 * kMicrosPerMinute;
inline constexpr int kMinutesPerWeek = 7 * 24 * 60;

// [from, to) in minutes since Monday, 0:00.
struct OpenHours {
    std::int32_t from, to;
};

// The time zone: how far local time is ahead of UTC at a moment, and until when at least that holds.
struct ZoneOffset {
    std::int64_t ahead; // microseconds
    std::int64_t until; // later than the moment asked for
};
struct TimeZone {
    ZoneOffset (*offset_at)(const void* zone, std::int64_t utc);
    const void* zone;
};

class ServiceHours {
  public:
    // `hours` ascending, not overlapping, within the week, none empty; at least one. `holidays`: local days since the
    // epoch, closed all day. `monday`: a day since the epoch that is a Monday. Throws tandem::Error (22023) where that
    // is not so.
    ServiceHours(std::span<const OpenHours> hours, std::span<const std::int32_t> holidays, std::int32_t monday);

    // The first moment at which the clock, started at `start`, has run for `open_time` (0: `start` itself). `horizon`
    // if it were later.
    std::int64_t add_open_time(std::int64_t start, std::int64_t open_time, std::int64_t horizon, TimeZone zone) const;

  private:
    bool is_holiday(std::int64_t day) const;

    std::vector<OpenHours> days_[7]; // within the day
    std::vector<std::int32_t> holidays_;
    std::int32_t monday_;
};

} // namespace tandem
