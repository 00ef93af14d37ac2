// What the parser says of SQL that somebody wrote is about that SQL: its message stays, and what it is about is added.
#pragma once

#include "pg/prelude.hpp"

namespace pg {

// call(f), which parses; to an ERROR of it tell(ErrorData*) adds detail and hint.
template <class F, class Tell>
auto explaining(F&& f, Tell&& tell) {
    try {
        return call(f);
    } catch (const Error& error) {
        ErrorData* data = error.data();
        if (data != nullptr) {
            call([&] {
                tell(data);
                // A position in that SQL; by now it has become one in whatever statement asked.
                data->cursorpos = 0;
                data->internalpos = 0;
                data->internalquery = nullptr;
            });
        }
        throw;
    }
}

} // namespace pg
