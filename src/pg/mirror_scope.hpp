// The statement whose triggers fire: the changes that its mirrors collect, to be written together at its end.
#pragma once

#include "pg/mirror_write.hpp"

namespace pg::scope {

// Changes of one table, as they came one behind the other.
struct Group {
    PlanKey key;
    Oid function;
    int count;
    int size;
    Change* changes;
    Group* next;
};

// Keeps a copy of the change until the statement ends, or until there are many. false: it is not a statement whose end
// we see (logical replication's apply, a session in which the library was loaded just now), or the setting says no.
bool collect(const PlanKey& key, Oid function, const Change& change);

// Writes what was collected so far: before a change that cannot wait, as it may be a child of what came first.
void write_collected();

// From how many rows on they are written together; 0: each by itself, at once.
extern int bulk_rows;

void define_settings();
void install_hooks();

} // namespace pg::scope

namespace pg {

// mirror.cpp: writes collected changes, so many rows in all. false: none of them, as a foreign key does not hold, and
// they are not the last ones of their statement.
bool mirror_groups(const scope::Group* groups, int rows, bool last);

} // namespace pg
