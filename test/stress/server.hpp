// What the server says about itself before and after, who waits in between, and an old snapshot that is held open.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "connection.hpp"

namespace stress {

struct ServerFigures {
    std::string version;
    double wal_bytes = 0, wal_full_pages = 0;
    double updates = 0, hot_updates = 0, dead_tuples = 0, autovacuums = 0; // of tandem.task
    double deadlocks = 0;
    double most_waiting = 0, mean_waiting = 0; // sessions that wait for a lock
    int samples = 0;
};

class ServerWatch {
  public:
    explicit ServerWatch(const std::string& conninfo);
    void sample(); // every now and then
    ServerFigures figures();

  private:
    ServerFigures read();

    Connection connection_;
    std::string begun_lsn_;
    ServerFigures begun_;
    double waiting_ = 0, most_waiting_ = 0;
    int samples_ = 0;
};

// Holds back what VACUUM may remove, from its making to its end.
class OldSnapshot {
  public:
    explicit OldSnapshot(const std::string& conninfo);

  private:
    Connection connection_;
};

} // namespace stress
