// The exception that core throws when input is wrong: a SQLSTATE with what happened, why, and what to type next.
// pg::entry turns it into ereport(ERROR) with the same fields.
#pragma once

#ifdef POSTGRES_H
#error "src/core includes no PostgreSQL header"
#endif

#include <stdexcept>
#include <string>
#include <utility>

namespace tandem {

class Error : public std::runtime_error {
  public:
    // sqlstate: five characters of static storage duration, e.g. "22023"
    Error(const char* sqlstate, const std::string& message, std::string detail = {}, std::string hint = {})
        : std::runtime_error(message), sqlstate_(sqlstate), detail_(std::move(detail)), hint_(std::move(hint)) {}

    const char* sqlstate() const noexcept { return sqlstate_; }
    const std::string& detail() const noexcept { return detail_; }
    const std::string& hint() const noexcept { return hint_; }

  private:
    const char* sqlstate_;
    std::string detail_;
    std::string hint_;
};

} // namespace tandem
