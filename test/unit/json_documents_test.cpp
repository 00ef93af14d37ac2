// What a state file holds, however it was damaged. The random test knows which bytes it touched, so it knows what must
// be found.
#include "core/json_documents.hpp"

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/json_clean.hpp"
#include "random.hpp"

namespace tandem {
namespace {

using Kind = JsonPart::Kind;

std::vector<JsonPart> read(std::string_view text, std::size_t step = 1 << 20) {
    JsonScanner scanner(text);
    while (scanner.scan(step)) {
    }
    return scanner.parts();
}

// "R{...} L{...}": what stands in each part, structure aside.
std::string shown(std::string_view text) {
    std::string result;
    for (const JsonPart& part : read(text)) {
        if (part.kind != Kind::structure) {
            result += result.empty() ? "" : " ";
            result += part.kind == Kind::record ? (part.unclosed ? "U" : "R") : part.kind == Kind::lost ? "L" : "S";
            result += text.substr(part.begin, part.end - part.begin);
        }
    }
    return result;
}

// The parts are disjoint, ascend, and leave out white space only.
void expect_all_accounted_for(std::string_view text, const std::vector<JsonPart>& parts) {
    std::size_t at = 0;
    const auto only_space = [&](std::size_t begin, std::size_t end) {
        const std::string_view between = text.substr(begin, end - begin);
        return between.find_first_not_of(std::string_view(" \t\r\n")) == std::string_view::npos;
    };
    for (const JsonPart& part : parts) {
        ASSERT_LE(at, part.begin);
        ASSERT_LT(part.begin, part.end) << static_cast<int>(part.kind) << text;
        ASSERT_TRUE(only_space(at, part.begin)) << at << " " << part.begin << "\n" << text;
        at = part.end;
    }
    ASSERT_LE(at, text.size());
    ASSERT_TRUE(only_space(at, text.size())) << text;
}

TEST(json_documents, forms_of_a_file) {
    EXPECT_EQ(shown(R"([{"id":1,"state":"a"},{"id":2,"state":"b"}])"),
              R"(R{"id":1,"state":"a"} R{"id":2,"state":"b"})");
    EXPECT_EQ(shown(R"({"tasks": [{"id":1,"state":"a"}]})"), R"(R{"id":1,"state":"a"})");
    EXPECT_EQ(shown(R"({"version": 3, "tasks": [{"id":1,"state":"a"}], "by": "x"})"),
              R"(S"version": 3, "tasks" R{"id":1,"state":"a"} S"by": "x")");
    EXPECT_EQ(shown(R"({"tasks": {"t-1": {"state":"a","payload":{"state":"x"}}, "t-2": {"state":"b"}}})"),
              R"(R{"state":"a","payload":{"state":"x"}} R{"state":"b"})");
    EXPECT_EQ(shown(R"({"t-1": {"status":"a"}, "t-2": {"status":"b"}})"), R"(R{"status":"a"} R{"status":"b"})");
    EXPECT_EQ(shown("{\"id\":1,\"state\":\"a\"}\n{\"id\":2,\"state\":\"b\"}\n"),
              R"(R{"id":1,"state":"a"} R{"id":2,"state":"b"})");
    EXPECT_EQ(shown(R"({"id":1,"state":"a"})"), R"(R{"id":1,"state":"a"})");
    EXPECT_EQ(shown(R"({"id":"w","status":"running","tasks":[{"id":1,"state":"a"}]})"),
              R"(S"id":"w","status":"running","tasks" R{"id":1,"state":"a"})");
    EXPECT_EQ(shown(R"({"workflow":{"status":"running","name":"w"},"tasks":[{"id":1,"state":"a"}]})"),
              R"(S"workflow":{"status":"running","name":"w"},"tasks" R{"id":1,"state":"a"})");
    EXPECT_EQ(shown(R"({"done":[{"id":1,"state":"a"}],"open":[{"id":2,"state":"b"}]})"),
              R"(S"done" R{"id":1,"state":"a"} S"open" R{"id":2,"state":"b"})");
    EXPECT_EQ(shown(R"({"users":[{"id":1,"type":"admin"}],"tasks":[{"id":1,"type":"k"}]})"),
              R"(S"users":[{"id":1,"type":"admin"}],"tasks" R{"id":1,"type":"k"})");
    EXPECT_EQ(shown(R"([{"id":1,"state":"a","payload":{"sub":[{"id":9,"state":"x"}],"one":{"id":8,"state":"y"}}}])"),
              R"(R{"id":1,"state":"a","payload":{"sub":[{"id":9,"state":"x"}],"one":{"id":8,"state":"y"}}})");
    EXPECT_EQ(shown(""), "");
    EXPECT_EQ(shown(" \n"), "");
    EXPECT_EQ(shown("hello"), "Lhello");
    EXPECT_EQ(shown("[1, 2]"), "S1, 2");
}

TEST(json_documents, damage) {
    // concatenated: "Extra data"
    EXPECT_EQ(shown(R"([{"id":1,"state":"a"}][{"id":2,"state":"b"}])"),
              R"(R{"id":1,"state":"a"} R{"id":2,"state":"b"})");
    EXPECT_EQ(shown(R"({"tasks":[{"id":1,"state":"a"}]}"id":2,"state":"b"}]})"),
              R"(R{"id":1,"state":"a"} L"id":2,"state":"b")");
    // cut short
    EXPECT_EQ(shown(R"([{"id":1,"state":"a"},{"id":2,"sta)"), R"(R{"id":1,"state":"a"} L{"id":2,"sta)");
    EXPECT_EQ(shown(R"([{"id":1,"state":"a"},{"id":2,"state":"b","version":1)"),
              R"(R{"id":1,"state":"a"} L{"id":2,"state":"b","version":1)");
    EXPECT_EQ(shown(R"([{"id":1,"state":"a"},{"id":2,"state":"b","payload":{})"),
              R"(R{"id":1,"state":"a"} U{"id":2,"state":"b","payload":{})");
    EXPECT_EQ(
        shown(R"([{"id":1,"state":"a","kind":"k"},{"id":2,"state":"b","payload":{"x":[{"id":3,"state":"c"}], "y)"),
        R"(R{"id":1,"state":"a","kind":"k"} L{"id":2,"state":"b","payload":{"x":[{"id":3,"state":"c"}], "y)");
    // cut short and written again behind it
    EXPECT_EQ(shown(R"([{"id":1,"state":"a"},{"id":2,"sta[{"id":1,"state":"a"},{"id":2,"state":"b"}])"),
              R"(R{"id":1,"state":"a"} L{"id":2,"sta R{"id":1,"state":"a"} R{"id":2,"state":"b"})");
    EXPECT_EQ(
        shown(R"([{"id":1,"state":"a","payload":[{"id":1,"state":"a","payload":1},{"id":2,"state":"b","payload":1}])"),
        R"(L{"id":1,"state":"a","payload" R{"id":1,"state":"a","payload":1} R{"id":2,"state":"b","payload":1})");
    // one brace or quote too few or too many
    EXPECT_EQ(shown(R"([{"id":1,"state":"a", {"id":2,"state":"b"}, {"id":3,"state":"c"}])"),
              R"(U{"id":1,"state":"a" R{"id":2,"state":"b"} R{"id":3,"state":"c"})");
    EXPECT_EQ(shown(R"([{"id":1,"state":"a}, {"id":2,"state":"b"}, {"id":3,"state":"c"}])"),
              R"(L{"id":1,"state":"a} R{"id":2,"state":"b"} R{"id":3,"state":"c"})");
    EXPECT_EQ(shown(R"([{"id":1,"state":"a"}}, {"id":2,"state":"b"}])"),
              R"(R{"id":1,"state":"a"} R{"id":2,"state":"b"})");
    EXPECT_EQ(shown(R"([ {{"id":1,"state":"a"}, {"id":2,"state":"b"}])"),
              R"(R{"id":1,"state":"a"} R{"id":2,"state":"b"})");
    EXPECT_EQ(shown(R"([",{"id":1,"state":"a"}, {"id":2,"state":"b"}])"),
              R"(L" R{"id":1,"state":"a"} R{"id":2,"state":"b"})");
    EXPECT_EQ(shown(R"([\"{"id":1,"state":"a"}])"), R"(L\" R{"id":1,"state":"a"})");
    // records of other kinds are none the worse for damage behind them
    EXPECT_EQ(shown(R"([{"id":1,"state":"a","kind":"","version":1},{"id":2,"state":"b"},{"id":3,"st)"),
              R"(R{"id":1,"state":"a","kind":"","version":1} R{"id":2,"state":"b"} L{"id":3,"st)");
    // commas
    EXPECT_EQ(shown(R"([{"id":1,"state":"a",},{"id":2 "state":"b"},,{"id":3,"state":"c"},])"),
              R"(R{"id":1,"state":"a",} R{"id":2 "state":"b"} R{"id":3,"state":"c"})");
    // what remains of a task is no task of its own
    EXPECT_EQ(
        shown(
            R"([{"id":1,"state":"a","kind":""}, "id":2,"state":"b","payload":{"id":9,"state":"x"}}, {"id":3,"state":"c","kind":""}])"),
        R"(R{"id":1,"state":"a","kind":""} L"id":2,"state":"b","payload" L{"id":9,"state":"x"} R{"id":3,"state":"c","kind":""})");
    EXPECT_EQ(shown(R"([{"id":1,"id":2,"state":"b"}])"), R"(L{"id":1,"id":2,"state":"b"})");
    EXPECT_EQ(shown(R"([{"id":1,"id":1,"state":"b"}])"), R"(R{"id":1,"id":1,"state":"b"})");
}

TEST(json_documents, depth) {
    const std::string record = R"({"id":1,"state":"a"})";
    EXPECT_EQ(shown(std::string(100'000, '[')), "");
    EXPECT_EQ(shown(std::string(100'000, '[') + record), "R" + record);
    std::string deep = R"({"id":2,"state":"a","payload":)" + std::string(2000, '[') + std::string(2000, ']') + "}";
    EXPECT_EQ(shown("[" + deep + "," + record + "]").substr(0, 8), R"(L{"id":2)");
    EXPECT_EQ(shown("[" + deep + "," + record + "]")
                  .substr(shown("[" + deep + "," + record + "]").size() - record.size() - 1),
              "R" + record);
}

TEST(json_clean, repairs) {
    const auto clean = [](std::string_view json, bool unclosed = false) {
        const CleanJson result = clean_json(json, unclosed);
        return !result.ok ? std::string("lost: ") + result.reason : result.repairs == 0 ? "as it is" : result.text;
    };
    EXPECT_EQ(clean(R"({"a":[1,-0.5e+3,true,"x\n\u00e4\ud83d\ude00"],"b":{}})"), "as it is");
    EXPECT_EQ(clean(R"({"a":1,})"), R"({"a":1})");
    EXPECT_EQ(clean(R"({,"a":[,1,,2,],})"), R"({"a":[1,2]})");
    EXPECT_EQ(clean("{\"a\":1,\0}" + std::string()), R"(lost: its end is missing)");
    EXPECT_EQ(clean(std::string_view("{\"a\":1,\0,\0}", 11)), "{\"a\":1  }");
    EXPECT_EQ(clean(R"({"a":1 "b":[1 2]})"), R"({"a":1 ,"b":[1 ,2]})");
    EXPECT_EQ(clean("{\"a\":\"x\ny\"}"), R"({"a":"x\u000ay"})");
    EXPECT_EQ(clean("{\"a\":\"\xff\xc3\xa4\xed\xa0\x80\"}"),
              "{\"a\":\"\xef\xbf\xbd\xc3\xa4\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"}");
    EXPECT_EQ(clean(R"({"a":"\u0000 \ud800 \udc00 \ud800\u0041 \x \u12"})"),
              "{\"a\":\"\xef\xbf\xbd \xef\xbf\xbd \xef\xbf\xbd \xef\xbf\xbd\\u0041 \\\\x \\\\u12\"}");
    EXPECT_EQ(clean(R"({"a":[None,True,False,NaN,-Infinity]})"), R"({"a":[null,true,false,null,null]})");
    EXPECT_EQ(clean(R"({"a":[007,+1,.5,5.,-00.50e3,1e999999999999999999999,1e-20000]})"),
              R"({"a":[7,1,0.5,5,-0.50e3,"1e999999999999999999999","1e-20000"]})");
    EXPECT_EQ(clean(R"({"a":1)", true), R"({"a":1})");
    EXPECT_EQ(clean(R"({"a":1,)", true), R"({"a":1})");
    EXPECT_EQ(clean(R"({"a":1)"), "lost: its end is missing");
    EXPECT_EQ(clean(R"({"a")", true), "lost: its end is missing");
    EXPECT_EQ(clean(R"({"a":1-2})"), "lost: no number");
    EXPECT_EQ(clean(R"({"a" 1})"), "lost: a colon is missing");
    EXPECT_EQ(clean(R"({"a":})"), "lost: a value is missing");
    EXPECT_EQ(clean(R"({1:2})"), "lost: the name of a member is missing");
    EXPECT_EQ(clean(R"({"a":1]})"), "lost: its brackets do not match");
    EXPECT_EQ(clean(R"({}{})"), "lost: something stands behind it");
}

TEST(json_clean, utf16) {
    bool big = false;
    EXPECT_FALSE(is_utf16("[{}]", big));
    const std::string little("\xff\xfe[\0\xe4\0=\xd8\0\xde\0\xd8]\0", 14);
    ASSERT_TRUE(is_utf16(little, big));
    EXPECT_FALSE(big);
    const std::string utf8 = utf16_to_utf8(little, big);
    EXPECT_EQ(utf8, "\xef\xbb\xbf[\xc3\xa4\xf0\x9f\x98\x80\xef\xbf\xbd]");
    EXPECT_EQ(utf16_size(utf8), little.size());
    ASSERT_TRUE(is_utf16(std::string("\0[\0{", 4), big));
    EXPECT_TRUE(big);
}

// --- random damage

struct Original {
    std::string text;
    std::string id;
};

// Bytes of a file, each with the record that it is part of (-1: none) and its place in it.
struct Cell {
    char byte;
    int record;
    int place;
};
using File = std::vector<Cell>;

class Maker {
  public:
    explicit Maker(test::Random& random) : random_(random) {}

    std::string string() {
        static constexpr const char* kPieces[] = {"x", "task", "\\\"", "\\\\",     "{",       "}",  "[",    "]", ",",
                                                  ":", " ",    "\\n",  "\xc3\xa4", "\\u00e4", "id", "true", "12"};
        std::string result = "\"";
        for (auto n = random_.below(6); n > 0; n--) {
            result += kPieces[random_.below(std::size(kPieces))];
        }
        return result + "\"";
    }
    std::string value(int depth) {
        switch (random_.below(depth > 2 ? 4 : 7)) {
        case 0:
            return std::to_string(random_.below(100000));
        case 1:
            return random_.chance(0.5) ? "true" : "null";
        case 2:
        case 3:
            return string();
        case 4: {
            std::string result = "[";
            for (auto n = random_.below(4); n > 0; n--) {
                result += value(depth + 1) + (n > 1 ? comma() : "");
            }
            return result + "]";
        }
        case 5: // looks like a task, and is none
            return R"({"id":"nested-)" + std::to_string(random_.below(100)) + R"(","state":"done"})";
        default: {
            std::string result = "{";
            for (auto n = random_.below(4); n > 0; n--) {
                result += "\"k" + std::to_string(n) + "\"" + colon() + value(depth + 1) + (n > 1 ? comma() : "");
            }
            return result + "}";
        }
        }
    }
    std::string comma() { return pretty_ ? ",\n  " : ","; }
    std::string colon() { return pretty_ ? ": " : ":"; }

    Original record(int number) {
        Original result;
        result.id = "task-" + std::to_string(number);
        result.text = "{\"id\"" + colon() + "\"" + result.id + "\"" + comma() + "\"kind\"" + colon() + string() +
                      comma() + "\"state\"" + colon() + "\"pending\"" + comma() + "\"version\"" + colon() +
                      std::to_string(1 + random_.below(9)) + comma() + "\"payload\"" + colon() + "{\"v\"" + colon() +
                      value(0) + "}" + comma() + "\"updated_at\"" + colon() + "\"2024-01-01T00:00:00Z\"}";
        return result;
    }

    File file(std::vector<Original>& originals) {
        pretty_ = random_.chance(0.5);
        const auto form = random_.below(4);
        File result;
        const auto add = [&](std::string_view text, int record) {
            int place = 0;
            for (const char c : text) {
                result.push_back({c, record, record < 0 ? 0 : place++});
            }
        };
        add(form == 0 ? "[" : form == 1 ? "{\"tasks\": [" : form == 2 ? "{\"tasks\": {" : "", -1);
        const auto count = 1 + random_.below(30);
        for (unsigned i = 0; i < count; i++) {
            if (i > 0) {
                add(form == 3 ? "\n" : comma(), -1);
            }
            originals.push_back(record(static_cast<int>(originals.size())));
            if (form == 2) {
                add("\"" + originals.back().id + "\"" + colon(), -1);
            }
            add(originals.back().text, static_cast<int>(originals.size()) - 1);
        }
        add(form == 0 ? "]" : form == 1 ? "]}" : form == 2 ? "}}" : "\n", -1);
        return result;
    }

    void damage(File& file) {
        const auto at = [&] { return static_cast<std::ptrdiff_t>(random_.below(file.size() + 1)); };
        const auto junk = [&] {
            static constexpr std::string_view kBytes = "\"\\{}[],: \nx1-'";
            const char c = random_.chance(0.7) ? kBytes[random_.below(kBytes.size())] : static_cast<char>(random_());
            return Cell{c, -1, 0};
        };
        switch (random_.below(6)) {
        case 0: // cut short
            file.resize(static_cast<std::size_t>(at()));
            break;
        case 1: // a byte is another one
            if (!file.empty()) {
                file[random_.below(file.size())] = junk();
            }
            break;
        case 2: // bytes put in
            for (auto n = 1 + random_.below(3); n > 0; n--) {
                file.insert(file.begin() + at(), junk());
            }
            break;
        case 3: { // a hole
            const auto begin = at();
            const auto size = static_cast<std::ptrdiff_t>(random_.below(200));
            file.erase(file.begin() + begin,
                       file.begin() + std::min(begin + size, static_cast<std::ptrdiff_t>(file.size())));
            break;
        }
        case 4: { // a piece stands twice
            const auto begin = at();
            const auto end = std::min(begin + static_cast<std::ptrdiff_t>(random_.below(400)),
                                      static_cast<std::ptrdiff_t>(file.size()));
            const File piece(file.begin() + begin, file.begin() + end);
            file.insert(file.begin() + at(), piece.begin(), piece.end());
            break;
        }
        default: // NUL bytes, as a crash leaves them
            for (std::size_t from = static_cast<std::size_t>(at()), n = random_.below(64); n > 0 && from < file.size();
                 n--, from++) {
                file[from] = {'\0', -1, 0};
            }
        }
    }

  private:
    test::Random& random_;
    bool pretty_ = false;
};

TEST(json_documents, every_untouched_task_is_found_and_none_is_invented) {
    test::Random random;
    Maker maker(random);
    std::size_t untouched = 0;
    std::size_t missed = 0;
    std::size_t invented = 0;
    for (int round = 0; round < 3000 && !::testing::Test::HasFatalFailure(); round++) {
        std::vector<Original> originals;
        File file = maker.file(originals);
        for (auto n = random.below(4); n > 0; n--) {
            maker.damage(file);
        }
        if (random.chance(0.3)) { // another writer: behind it, or inside of it
            const File other = maker.file(originals);
            const auto at = random.chance(0.5) ? file.size() : random.below(file.size() + 1);
            file.insert(file.begin() + static_cast<std::ptrdiff_t>(at), other.begin(), other.end());
        }
        std::string text;
        for (const Cell& cell : file) {
            text += cell.byte;
        }
        const std::vector<JsonPart> parts = read(text, 1 + random.below(1000));
        expect_all_accounted_for(text, parts);

        std::map<std::size_t, std::size_t> found;
        std::set<std::size_t> unclosed;
        for (const JsonPart& part : parts) {
            if (part.kind == Kind::record) {
                found[part.begin] = part.end;
                unclosed.insert(part.unclosed ? part.begin : text.size());
            }
        }
        for (std::size_t i = 0; i < file.size(); i++) {
            if (file[i].record < 0 || file[i].place != 0) {
                continue;
            }
            const std::string& original = originals[static_cast<std::size_t>(file[i].record)].text;
            std::size_t n = 0;
            while (n < original.size() && i + n < file.size() && file[i + n].record == file[i].record &&
                   file[i + n].place == static_cast<int>(n)) {
                n++;
            }
            if (n < original.size()) {
                continue;
            }
            untouched++;
            const auto hit = found.find(i);
            // One writer's whole file as a value in another one's: that is JSON, and says nothing of two files.
            const auto around = found.upper_bound(i);
            if (hit == found.end() && around != found.begin() && std::prev(around)->second >= i + n) {
                continue;
            }
            if (hit == found.end() || hit->second != i + n) {
                missed++;
                if (std::getenv("TANDEM_SHOW") != nullptr) {
                    std::cout << "MISSED " << original << " in\n" << text << "\n" << shown(text) << "\n";
                }
            }
        }
        // What was found begins where a task began, or some byte of it was touched.
        for (const auto& [begin, end] : found) {
            bool whole = file[begin].record >= 0 && unclosed.count(begin) == 0;
            for (std::size_t i = begin + 1; whole && i < end; i++) {
                whole = file[i].record == file[begin].record && file[i].place == file[i - 1].place + 1;
            }
            if (whole && (file[begin].place != 0 ||
                          end - begin != originals[static_cast<std::size_t>(file[begin].record)].text.size())) {
                invented++;
                if (std::getenv("TANDEM_SHOW") != nullptr) {
                    std::cout << "INVENTED " << text.substr(begin, end - begin) << " in\n"
                              << text << "\n"
                              << shown(text) << "\n";
                }
            }
        }
    }
    EXPECT_GT(untouched, 1000u);
    // A hole or a piece that stands twice may leave JSON that is whole and says something else; nobody can tell. It is
    // rare.
    EXPECT_LE(missed * 5000, untouched) << missed << " of " << untouched;
    EXPECT_LE(invented * 5000, untouched) << invented << " of " << untouched;
}

// Any bytes: an answer, every byte accounted for, the same in one step as in many.
TEST(json_documents, survives_any_bytes) {
    test::Random random;
    static constexpr std::string_view kBytes = "\"\"\\{{}}[],,:: \n\0x1'-\xef\xbb\xbf\xff";
    static constexpr const char* kWords[] = {"\"id\":", "\"state\":", "\"tasks\":[", "{\"id\":1,\"state\":2}",
                                             "\"payload\":{"};
    for (int round = 0; round < 20'000 && !::testing::Test::HasFatalFailure(); round++) {
        std::string text;
        for (auto n = random.below(60); n > 0; n--) {
            if (random.chance(0.3)) {
                text += kWords[random.below(std::size(kWords))];
            } else {
                text += kBytes[random.below(kBytes.size())];
            }
        }
        const std::vector<JsonPart> parts = read(text);
        expect_all_accounted_for(text, parts);
        EXPECT_EQ(parts.size(), read(text, 1 + random.below(5)).size());
        for (const JsonPart& part : parts) {
            if (part.kind == Kind::record) {
                const CleanJson clean =
                    clean_json(std::string_view(text).substr(part.begin, part.end - part.begin), part.unclosed);
                if (clean.ok && clean.repairs != 0) {
                    EXPECT_EQ(clean_json(clean.text, false).repairs, 0u) << text << "\n" << clean.text;
                    EXPECT_TRUE(clean_json(clean.text, false).ok) << text << "\n" << clean.text;
                }
            }
        }
    }
}

} // namespace
} // namespace tandem
