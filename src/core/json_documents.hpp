// Finds the task records in a state file as it is found in the wild: one object or array, lines, documents written one
// behind the other
// ("Extra data: line 164 column 2"), files cut short, two writers at once, bytes that were flipped, lost or put in.
//
// Whether a byte stands inside a string depends on every quote before it, and one quote too many turns all that follows
// inside out. So both readings are followed at once, side by side: at each byte one *track* is outside of strings and
// the other is inside. A record of which no byte was touched is read by the track that happens to be outside at its
// brace, whatever stands before it.
//
// One pass, linear in time; no recursion; at most kDeepest levels are remembered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace tandem {

// A part of the file. The parts are disjoint, ascend, and cover every byte that is not white space.
struct JsonPart {
    enum class Kind : std::uint8_t {
        record,    // an object that is a task
        lost,      // cannot be read
        skipped,   // can be read, and is no task
        structure, // brackets, commas and names around records
    };
    Kind kind;
    bool unclosed = false; // a record whose closing brace is missing, though all of its members are complete
    std::size_t begin;
    std::size_t end;
    const char* reason = nullptr; // lost, skipped
    // The member name in front of a record, and the value of its id, as they are written; begin == end: none.
    std::size_t name_begin = 0;
    std::size_t name_end = 0;
    std::size_t id_begin = 0;
    std::size_t id_end = 0;
};

class JsonScanner {
  public:
    static constexpr std::size_t kDeepest = 1024;

    explicit JsonScanner(std::string_view text);

    // Reads up to this many bytes more; false when there are none left.
    bool scan(std::size_t bytes);
    // After the last of them: the parts of the file.
    std::vector<JsonPart> parts();

  private:
    enum class Token : std::uint8_t { none, open, comma, colon, string, value, close, junk };
    struct Frame {
        std::size_t begin = 0;
        std::size_t name_begin = 0, name_end = 0;
        std::size_t id_begin = 0, id_end = 0;
        std::size_t safe_end = 0; // what comes behind does not belong to it, and up to here it is complete; 0: not so
        std::size_t first_record = 0; // records found since it was opened
        std::size_t errors = 0;       // of the track, when it was opened
        std::uint32_t fields = 0;     // which known members it has
        std::uint8_t id_rank = 0;
        bool object = false;
        bool named = false;     // it is the value of a member
        bool listing = false;   // its elements are expected to be tasks
        bool member = false;    // a value in an object whose values may be tasks by their names
        bool orphan = false;    // what it stands in was not read
        bool misplaced = false; // stands in an object where a name was expected
        bool broken = false;
        bool lists = false; // has a member of records, as "tasks"
        bool id_twice = false;
    };
    struct Record {
        std::size_t begin, end;
        std::size_t name_begin, name_end;
        std::size_t id_begin, id_end;
        std::size_t errors_open, errors_close;
        std::size_t parent;
        std::uint32_t fields; // with kMapped
        std::uint8_t track;
        std::uint8_t doubt; // kSure ...
        bool unclosed;
        bool own_name; // its id is the name of the member that it is, too: a task, wherever it stands
    };
    struct Mark { // a damaged record
        std::size_t begin, end;
        std::size_t id_begin, id_end;
        const char* reason;
    };
    struct Track {
        std::vector<Frame> frames;
        std::vector<Record> records;
        std::vector<Mark> marks;
        std::size_t errors = 0;
        std::size_t objects = 0; // of the frames
        std::size_t string_begin = 0;
        std::size_t key_begin = 0, key_end = 0;
        std::size_t last_end = 0; // of the last complete value; 0: it may go on
        std::size_t word_end = 0;
        std::size_t token_end = 0;  // of the last value, name or closing bracket
        std::size_t root_first = 0; // records found at the outermost level since the last error there
        std::uint32_t field = 0;    // of the member whose value comes
        std::uint8_t field_rank = 0;
        Token last = Token::none;
    };
    enum class Role : std::uint8_t { none, record, mapped };
    // In a list of tasks; in some other list; where it stands is not known. What is not sure must look like the tasks
    // of this file.
    enum Doubt : std::uint8_t { kSure, kElsewhere, kDoubtful };
    struct Verdict {
        Role role;
        Doubt doubt;
        bool own_name;
    };

    Track& outer() { return tracks_[outer_]; }
    std::uint8_t index(const Track& track) const { return static_cast<std::uint8_t>(&track - tracks_); }
    std::string_view slice(std::size_t begin, std::size_t end) const { return text_.substr(begin, end - begin); }
    std::size_t skip_space(std::size_t at) const;
    bool goes_on(std::size_t at) const;
    bool member_follows(std::size_t at) const;

    void check_comma(Track& track, std::size_t at, bool record);
    void finish_word(std::size_t end);
    void error(Track& track);
    void read_value(Track& track, std::size_t begin, std::size_t end);
    void read_string(Track& track, std::size_t begin, std::size_t end);
    void read_colon(Track& track);
    void read_comma(Track& track);
    void open(Track& track, std::size_t at, bool object);
    void close(Track& track, std::size_t at, bool object);
    void close_stray(Track& track, std::size_t at, bool object);
    void finish_array(Track& track, const Frame& frame, std::size_t end);
    void finish_object(Track& track, const Frame& frame, std::size_t end);
    void pop(Track& track);
    void give_up(Track& track, std::size_t end, const char* reason);
    void promote(Track& track, std::size_t at, bool named);
    void add(Track& track, const Frame& frame, std::size_t end, Verdict verdict, bool unclosed);
    static void doubt(Track& track, std::size_t from, std::size_t before);
    void mark(Track& track, const Frame& frame, std::size_t end, const char* reason);
    Verdict judge(const Frame& frame) const;

    std::vector<Record> merged(std::vector<Mark>& marks) const;
    void tell_gap(std::vector<JsonPart>& parts, std::size_t begin, std::size_t end, bool clean,
                  std::string_view next_name, const std::vector<Mark>& marks, std::size_t& mark) const;
    void tell_rest(std::vector<JsonPart>& parts, std::size_t begin, std::size_t end, JsonPart::Kind kind,
                   const char* reason, std::string_view next_name) const;

    std::string_view text_;
    Track tracks_[2];
    std::size_t at_ = 0;
    std::size_t word_begin_ = kNoWord;
    std::uint8_t outer_ = 0;
    bool escape_ = false;

    static constexpr std::size_t kNoWord = static_cast<std::size_t>(-1);
};

} // namespace tandem
