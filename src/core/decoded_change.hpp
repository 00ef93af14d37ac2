// One line of test_decoding's output: which table, what happened, and the values of the rows as text.
//
//   table shop."Order": UPDATE: old-key: id[integer]:1 new-tuple: id[integer]:2 note[text]:'it''s'
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tandem {

struct DecodedColumn {
    std::string name;
    std::optional<std::string> value; // nullopt: NULL
    bool unchanged = false;           // a long value that was not written again, and is not in the log
};

struct DecodedRow {
    bool present = false; // false: the log has nothing of it
    std::vector<DecodedColumn> columns;
};

struct DecodedChange {
    enum class Kind { insert, update, remove, truncate };
    Kind kind = Kind::insert;
    std::string relation; // schema and name, quoted where they must be; several with a comma for TRUNCATE
    DecodedRow old_row;   // its replica identity; an UPDATE that leaves that as it was has none
    DecodedRow new_row;
};

// nullopt: no change of a row, as BEGIN and COMMIT. Throws tandem::Error (XX001) on what test_decoding does not write.
std::optional<DecodedChange> parse_decoded_change(std::string_view line);

} // namespace tandem
