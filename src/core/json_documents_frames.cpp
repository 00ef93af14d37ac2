// What JsonScanner does at a bracket: objects and arrays are opened, closed, given up; a closed object is judged, and
// may be a record.
#include "core/json_documents.hpp"

#include <algorithm>

#include "core/json_fields.hpp"

namespace tandem {

void JsonScanner::open(Track& track, std::size_t at, bool object) {
    if (track.frames.size() == kDeepest) { // what is open is too deep for anybody; what it holds may still be a task
        error(track);
        const auto half = track.frames.begin() + kDeepest / 2;
        track.objects -= static_cast<std::size_t>(
            std::count_if(track.frames.begin(), half, [](const Frame& f) { return f.object; }));
        for (auto f = track.frames.begin(); f != half; f++) {
            if ((f->fields & (field::kId | field::kState)) != 0) {
                mark(track, *f, at, "nested deeper than 1024 levels");
                break;
            }
        }
        track.frames.erase(track.frames.begin(), half);
        track.root_first = track.records.size();
    }
    check_comma(track, at, object);
    Frame frame;
    frame.begin = at;
    frame.object = object;
    frame.named = track.last == Token::colon;
    if (frame.named) {
        frame.name_begin = track.key_begin;
        frame.name_end = track.key_end;
    }
    const bool list = frame.named && is_list_name(slice(frame.name_begin + 1, frame.name_end - 1));
    if (track.frames.empty() || !track.frames.back().object) {
        const bool parent_orphan = !track.frames.empty() && track.frames.back().orphan;
        const bool parent_listing = track.frames.empty() || track.frames.back().listing;
        frame.orphan = parent_orphan || (frame.named && !list);
        frame.listing = frame.named ? list : parent_listing;
    } else {
        Frame& parent = track.frames.back();
        frame.orphan = parent.orphan;
        frame.misplaced = !frame.named;
        frame.member = frame.named && parent.listing;
        frame.listing = frame.misplaced || (list && parent.listing);
        parent.lists = parent.lists || list;
        if (frame.misplaced) {
            const bool whole = track.last == Token::value || track.last == Token::close || track.last == Token::comma;
            if (!parent.broken && whole && track.last_end != 0) {
                parent.safe_end = track.last_end;
            }
            error(track);
            frame.orphan = false;
        }
    }
    frame.first_record = track.records.size();
    frame.errors = track.errors;
    track.frames.push_back(frame);
    track.objects += object ? 1 : 0;
    track.last = Token::open;
    track.last_end = 0;
}

void JsonScanner::pop(Track& track) {
    track.objects -= track.frames.back().object ? 1 : 0;
    track.frames.pop_back();
}

// A bracket that closes nothing. Records in front of "]}," stood in an array inside of an object of a list: they are
// parts of a task.
void JsonScanner::close_stray(Track& track, std::size_t at, bool object) {
    if (track.frames.empty() && !object) {
        std::size_t next = skip_space(at + 1);
        if (next < text_.size() && text_[next] == '}') {
            next = skip_space(next + 1);
            if (next < text_.size() && text_[next] == ',') {
                doubt(track, track.root_first, at);
            }
        }
    }
    error(track);
    track.last = Token::close;
    track.last_end = 0;
    track.token_end = at + 1;
}

void JsonScanner::close(Track& track, std::size_t at, bool object) {
    const std::size_t of_kind = object ? track.objects : track.frames.size() - track.objects;
    if (of_kind == 0) {
        close_stray(track, at, object);
        return;
    }
    while (track.frames.back().object != object) {
        give_up(track, at, "its brackets do not match");
    }
    if (track.last == Token::colon || track.last == Token::junk || (object && track.last == Token::string)) {
        error(track);
    }
    const Frame frame = track.frames.back();
    pop(track);
    track.last = Token::close;
    track.last_end = at + 1;
    track.token_end = at + 1;
    if (object) {
        finish_object(track, frame, at + 1);
    } else {
        finish_array(track, frame, at + 1);
    }
}

void JsonScanner::finish_array(Track& track, const Frame& frame, std::size_t end) {
    if (track.frames.empty()) {
        return;
    }
    if (frame.broken) {
        track.frames.back().broken = true;
    }
    if (track.frames.back().object && track.records.size() > frame.first_record && !goes_on(end)) {
        promote(track, frame.begin, frame.named);
        if (!frame.listing) {
            doubt(track, frame.first_record, end);
        }
    }
}

void JsonScanner::finish_object(Track& track, const Frame& frame, std::size_t end) {
    const Verdict verdict = judge(frame);
    const Role role = verdict.role;
    const bool inside = !track.frames.empty() && track.frames.back().object;
    const bool has_records = track.records.size() > frame.first_record;
    const bool holds_tasks = frame.lists && has_records && (frame.fields & field::kPayload) == 0 &&
                             (!frame.named || frame.member) && (track.frames.empty() || !frame.listing);
    if (role == Role::none || holds_tasks) {
        if (frame.lists && has_records) { // a member beside the list is no task, though it has a state
            const auto from = track.records.begin() + static_cast<std::ptrdiff_t>(frame.first_record);
            track.records.erase(std::remove_if(from, track.records.end(),
                                               [&](const Record& r) {
                                                   return r.parent == frame.begin && (r.fields & field::kMapped) != 0 &&
                                                          r.id_begin == 0;
                                               }),
                                track.records.end());
        } else if ((frame.fields & field::kState) != 0 &&
                   frame.listing) { // a task that has lost its id: what it holds is part of it
            doubt(track, frame.first_record, end);
            mark(track, frame, end, "a task without an id");
        }
        if (!track.frames.empty() && frame.broken) {
            track.frames.back().broken = true;
        }
        if (frame.broken && (frame.fields & (field::kId | field::kState)) != 0) {
            mark(track, frame, end, "damaged inside");
        }
        if (inside && track.records.size() > frame.first_record && !goes_on(end)) {
            promote(track, frame.begin, frame.named);
            if (!frame.lists) {
                doubt(track, frame.first_record, end);
            }
        }
        return;
    }
    const auto from = track.records.begin() + static_cast<std::ptrdiff_t>(frame.first_record);
    const bool ran_together =
        frame.id_twice || std::any_of(from, track.records.end(), [](const Record& r) { return r.own_name; });
    if (frame.broken || ran_together) {
        mark(track, frame, end, frame.broken ? "damaged inside" : "records that ran into each other");
        doubt(track, frame.first_record, end);
        track.errors++;
        if (!track.frames.empty()) {
            track.frames.back().broken = true;
        }
        return;
    }
    track.records.resize(frame.first_record);
    Verdict final = verdict;
    if (inside && !goes_on(end)) {
        promote(track, frame.begin, frame.named);
        if (!final.own_name) {
            final.doubt = kDoubtful;
        }
    } else if (!final.own_name && (frame.misplaced || (track.frames.empty() && goes_on(end) &&
                                                       text_[std::min(skip_space(end), text_.size() - 1)] != '}'))) {
        final.doubt = kDoubtful; // it may be a member whose name, or whose object, was lost
    }
    add(track, frame, end, final, false);
}

// Records up to here, of which it is not known any more where they stand.
void JsonScanner::doubt(Track& track, std::size_t from, std::size_t before) {
    for (std::size_t i = from; i < track.records.size() && track.records[i].begin < before; i++) {
        if (!track.records[i].own_name) {
            track.records[i].doubt = kDoubtful;
        }
    }
}

// What stands open on top of the frames will not be closed.
void JsonScanner::give_up(Track& track, std::size_t end, const char* reason) {
    const Frame frame = track.frames.back();
    pop(track);
    track.errors++;
    if (!track.frames.empty()) {
        track.frames.back().broken = true;
    }
    if (!frame.object || (frame.fields & (field::kId | field::kState)) == 0) {
        return;
    }
    const bool complete = (frame.fields & (field::kId | field::kState)) == (field::kId | field::kState);
    const auto from = track.records.begin() + static_cast<std::ptrdiff_t>(frame.first_record);
    const bool listed = frame.lists && from != track.records.end() && (frame.fields & field::kPayload) == 0;
    if (frame.safe_end != 0 && complete && !frame.id_twice && !listed && judge(frame).role == Role::record) {
        std::vector<Record>& records = track.records;
        records.erase(std::remove_if(from, records.end(), [&](const Record& r) { return r.begin < frame.safe_end; }),
                      records.end());
        const std::vector<Record> behind(records.begin() + static_cast<std::ptrdiff_t>(frame.first_record),
                                         records.end());
        records.resize(frame.first_record);
        add(track, frame, frame.safe_end, judge(frame), true);
        records.insert(records.end(), behind.begin(), behind.end());
        return;
    }
    if (!listed) {
        doubt(track, frame.first_record, end);
        mark(track, frame, end, reason);
    }
}

// What was read last stands in the middle of an object, but is followed by what cannot follow there: a new document, or
// the next records behind a hole. The objects around it are at their end.
void JsonScanner::promote(Track& track, std::size_t at, bool named) {
    std::size_t keep = track.frames.size();
    for (std::size_t i = keep; i > 0 && (track.frames[i - 1].object || !track.frames[i - 1].listing); i--) {
        if (!named || track.frames[i - 1].fields != 0 || track.frames[i - 1].misplaced) {
            keep = i - 1;
        }
    }
    while (track.frames.size() > keep) {
        give_up(track, at, "its end is missing");
    }
}

void JsonScanner::add(Track& track, const Frame& frame, std::size_t end, Verdict verdict, bool unclosed) {
    const bool mapped = verdict.role == Role::mapped;
    Record record{};
    record.begin = frame.begin;
    record.end = end;
    record.name_begin = frame.name_begin;
    record.name_end = frame.name_end;
    record.id_begin = mapped ? 0 : frame.id_begin;
    record.id_end = mapped ? 0 : frame.id_end;
    record.errors_open = frame.errors;
    record.errors_close = track.errors;
    record.parent = track.frames.empty() ? 0 : track.frames.back().begin;
    record.fields = (frame.fields & field::kShape) | (mapped ? std::uint32_t{field::kMapped} : 0U);
    record.track = index(track);
    record.doubt = verdict.doubt;
    record.own_name = verdict.own_name;
    record.unclosed = unclosed;
    track.records.push_back(record);
}

void JsonScanner::mark(Track& track, const Frame& frame, std::size_t end, const char* reason) {
    track.marks.push_back({frame.begin, end, frame.id_begin, frame.id_end, reason});
}

JsonScanner::Verdict JsonScanner::judge(const Frame& frame) const {
    const bool id = (frame.fields & field::kId) != 0;
    const bool state = (frame.fields & field::kState) != 0;
    const bool own_name =
        frame.named && id &&
        unquoted(slice(frame.name_begin, frame.name_end)) == unquoted(slice(frame.id_begin, frame.id_end));
    if (frame.orphan) {
        if (!state || (!id && !frame.named)) {
            return {Role::none, kSure, false};
        }
        return {id ? Role::record : Role::mapped, own_name ? kSure : kDoubtful, own_name};
    }
    if (id && state) {
        return {Role::record, own_name || frame.listing ? kSure : kElsewhere, own_name};
    }
    if (!id) {
        return {state && frame.member ? Role::mapped : Role::none, kSure, false};
    }
    const bool task = (frame.fields & (field::kKind | field::kVersion | field::kPayload)) != 0;
    return {task && (own_name || (!frame.named && frame.listing)) ? Role::record : Role::none, kSure, own_name};
}

} // namespace tandem
