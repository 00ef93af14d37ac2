#include "pg/compare_settings.hpp"

namespace pg::compare {

int memory_kb = 64 * 1024;
int method = static_cast<int>(Method::automatic);
int path = static_cast<int>(Path::automatic);

namespace {

constexpr config_enum_entry kMethods[] = {{"auto", static_cast<int>(Method::automatic), false},
                                          {"sketch", static_cast<int>(Method::sketch), false},
                                          {"radix", static_cast<int>(Method::radix), false},
                                          {"join", static_cast<int>(Method::join), false},
                                          {nullptr, 0, false}};

constexpr config_enum_entry kPaths[] = {{"auto", static_cast<int>(Path::automatic), false},
                                        {"raw", static_cast<int>(Path::raw), false},
                                        {"slots", static_cast<int>(Path::slots), false},
                                        {"executor", static_cast<int>(Path::executor), false},
                                        {nullptr, 0, false}};

} // namespace

void define_settings() {
    DefineCustomIntVariable("tandem.compare_memory", "Memory that a comparison may use before it spills to files.",
                            "All of its parallel workers together.", &memory_kb, 64 * 1024, 1024, MAX_KILOBYTES,
                            PGC_USERSET, GUC_UNIT_KB, nullptr, nullptr, nullptr);
    DefineCustomEnumVariable("tandem.compare_method", "How comparisons find the rows that may differ.",
                             "Every method gives the same answer; anything but auto is for tests.", &method,
                             static_cast<int>(Method::automatic), kMethods, PGC_USERSET, 0, nullptr, nullptr, nullptr);
    DefineCustomEnumVariable("tandem.compare_path", "How comparisons read a side.",
                             "Every path gives the same answer; anything but auto is for tests. A side that does not "
                             "allow the path is read by the next one that it allows.",
                             &path, static_cast<int>(Path::automatic), kPaths, PGC_USERSET, 0, nullptr, nullptr,
                             nullptr);
}

} // namespace pg::compare
