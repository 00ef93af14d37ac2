// libpq with RAII: a connection, results, and errors as exceptions. Everything goes as text; the statements are
// prepared.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <libpq-fe.h>

namespace stress {

class SqlError : public std::runtime_error {
  public:
    SqlError(std::string sqlstate, const std::string& message)
        : std::runtime_error(message), sqlstate_(std::move(sqlstate)) {}
    const std::string& sqlstate() const { return sqlstate_; }

  private:
    std::string sqlstate_;
};

class Result {
  public:
    explicit Result(PGresult* result) : result_(result) {}
    int rows() const { return PQntuples(result_.get()); }
    bool is_null(int row, int column) const { return PQgetisnull(result_.get(), row, column) != 0; }
    std::string text(int row, int column) const { return PQgetvalue(result_.get(), row, column); }
    bool truth(int row, int column) const { return *PQgetvalue(result_.get(), row, column) == 't'; }
    std::int64_t number(int row, int column) const;
    double real(int row, int column) const;

  private:
    struct Clear {
        void operator()(PGresult* result) const { PQclear(result); }
    };
    std::unique_ptr<PGresult, Clear> result_;
};

// A parameter: text, or NULL.
using Parameter = std::optional<std::string>;
using Parameters = std::initializer_list<Parameter>;

class Connection {
  public:
    // `conninfo` as libpq takes it; empty: the environment.
    Connection(const std::string& conninfo, const std::string& application_name);

    Result query(const std::string& sql); // one statement or several, without parameters; the last one's answer
    void prepare(const char* name, const char* sql);
    Result execute(const char* name, Parameters parameters);
    Result execute(const std::string& sql, Parameters parameters, bool prepared);
    // Sends the statement and asks the server at once to cancel it: it was done, or it is an SqlError 57014.
    Result execute_and_cancel(const char* name, Parameters parameters);
    void copy_in(const std::string& sql, const std::vector<std::string>& lines);
    bool is_lost() const { return PQstatus(connection_.get()) != CONNECTION_OK; }

  private:
    Result check(PGresult* result);
    [[noreturn]] void fail(const PGresult* result);
    struct Finish {
        void operator()(PGconn* connection) const { PQfinish(connection); }
    };
    std::unique_ptr<PGconn, Finish> connection_;
};

// '{"a","b"}' for an array parameter.
std::string array_literal(const std::vector<std::string>& elements);

} // namespace stress
