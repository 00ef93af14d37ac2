#include "connection.hpp"

#include <array>
#include <cstdlib>

namespace stress {

namespace {

constexpr const char* kConnectionLost = "08006";

struct FreeCancel {
    void operator()(PGcancel* cancel) const { PQfreeCancel(cancel); }
};

std::vector<const char*> pointers(Parameters parameters) {
    std::vector<const char*> values;
    values.reserve(parameters.size());
    for (const Parameter& parameter : parameters) {
        values.push_back(parameter ? parameter->c_str() : nullptr);
    }
    return values;
}

std::string without_newline(std::string text) {
    while (!text.empty() && text.back() == '\n') {
        text.pop_back();
    }
    return text;
}

} // namespace

std::int64_t Result::number(int row, int column) const {
    return std::strtoll(PQgetvalue(result_.get(), row, column), nullptr, 10);
}

double Result::real(int row, int column) const {
    return std::strtod(PQgetvalue(result_.get(), row, column), nullptr);
}

Connection::Connection(const std::string& conninfo, const std::string& application_name) {
    // A server that hangs must become an error here, not a program that never ends.
    const std::array keywords{"dbname", "application_name", "options", "connect_timeout",
                              static_cast<const char*>(nullptr)};
    const std::array values{conninfo.empty() ? nullptr : conninfo.c_str(), application_name.c_str(),
                            "-c statement_timeout=60s -c client_min_messages=warning", "20",
                            static_cast<const char*>(nullptr)};
    connection_.reset(PQconnectdbParams(keywords.data(), values.data(), 1));
    if (connection_ == nullptr || is_lost()) {
        fail(nullptr);
    }
    // Warnings are for the server's log: a thousand of them would hide the report.
    PQsetNoticeProcessor(
        connection_.get(), [](void*, const char*) {}, nullptr);
}

Result Connection::query(const std::string& sql) {
    return check(PQexec(connection_.get(), sql.c_str()));
}

void Connection::prepare(const char* name, const char* sql) {
    check(PQprepare(connection_.get(), name, sql, 0, nullptr));
}

Result Connection::execute(const char* name, Parameters parameters) {
    return execute(name, parameters, true);
}

Result Connection::execute(const std::string& sql, Parameters parameters, bool prepared) {
    const std::vector<const char*> values = pointers(parameters);
    const int count = static_cast<int>(values.size());
    return check(
        prepared ? PQexecPrepared(connection_.get(), sql.c_str(), count, values.data(), nullptr, nullptr, 0)
                 : PQexecParams(connection_.get(), sql.c_str(), count, nullptr, values.data(), nullptr, nullptr, 0));
}

Result Connection::execute_and_cancel(const char* name, Parameters parameters) {
    const std::vector<const char*> values = pointers(parameters);
    if (PQsendQueryPrepared(connection_.get(), name, static_cast<int>(values.size()), values.data(), nullptr, nullptr,
                            0) == 0) {
        fail(nullptr);
    }
    const std::unique_ptr<PGcancel, FreeCancel> cancel(PQgetCancel(connection_.get()));
    std::array<char, 256> error{};
    PQcancel(cancel.get(), error.data(), static_cast<int>(error.size()));
    PGresult* answer = PQgetResult(connection_.get());
    while (PGresult* more = PQgetResult(connection_.get())) {
        PQclear(more);
    }
    return check(answer);
}

void Connection::copy_in(const std::string& sql, const std::vector<std::string>& lines) {
    const Result begun(PQexec(connection_.get(), sql.c_str()));
    for (const std::string& line : lines) {
        if (PQputCopyData(connection_.get(), line.data(), static_cast<int>(line.size())) != 1) {
            fail(nullptr);
        }
    }
    if (PQputCopyEnd(connection_.get(), nullptr) != 1) {
        fail(nullptr);
    }
    check(PQgetResult(connection_.get()));
    while (PGresult* more = PQgetResult(connection_.get())) {
        PQclear(more);
    }
}

Result Connection::check(PGresult* result) {
    Result owned(result);
    const ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        fail(result);
    }
    return owned;
}

void Connection::fail(const PGresult* result) {
    const char* sqlstate = result == nullptr ? nullptr : PQresultErrorField(result, PG_DIAG_SQLSTATE);
    std::string message = sqlstate == nullptr ? "" : PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    if (message.empty()) {
        message = connection_ == nullptr ? "out of memory" : without_newline(PQerrorMessage(connection_.get()));
    }
    throw SqlError(sqlstate == nullptr ? kConnectionLost : sqlstate, message);
}

std::string array_literal(const std::vector<std::string>& elements) {
    std::string literal = "{";
    for (const std::string& element : elements) {
        if (literal.size() > 1) {
            literal += ',';
        }
        literal += '"';
        for (const char character : element) {
            if (character == '"' || character == '\\') {
                literal += '\\';
            }
            literal += character;
        }
        literal += '"';
    }
    return literal + '}';
}

} // namespace stress
