// html(): the only way by which a value gets into a page of tandem.report().
//
// tandem.html('<td>{}</td>', value, ...) puts values in the place of {}, as core/html writes them. What may stand there
// as it is says its type: tandem.markup, which nothing but this function makes (its input function refuses), or an
// array of it. So no value can be put in unescaped by forgetting something: text where markup is wanted is an error
// when the statement is parsed. The template must be a literal: one that is put together from columns is refused, and
// pgtap/report looks through our own functions.
#include "pg/prelude.hpp"

#include "core/html.hpp"

extern "C" {
#include "utils/array.h"
}

namespace pg {
namespace {

enum class Kind { value, html, html_array };

struct Argument {
    Kind kind;
    FmgrInfo output;
};

struct Call { // kept with the call's expression
    Oid html;
    Argument arguments[FLEXIBLE_ARRAY_MEMBER];
};

Call* prepare(FunctionCallInfo fcinfo) {
    FmgrInfo* flinfo = fcinfo->flinfo;
    auto* expression = reinterpret_cast<FuncExpr*>(flinfo->fn_expr);
    if (expression == nullptr || !IsA(expression, FuncExpr) || get_fn_expr_variadic(flinfo)) {
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("html() takes its values one by one"),
                        errhint("tandem.html('<td>{}</td>', value); a list of html goes in as one array.")));
    }
    if (!IsA(linitial(expression->args), Const)) {
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the template of html() must be a literal"),
                 errdetail("One that is put together may hold what nobody escaped."), errhint("Put values in by {}.")));
    }
    auto* call = static_cast<Call*>(MemoryContextAllocZero(
        flinfo->fn_mcxt, offsetof(Call, arguments) + sizeof(Argument) * static_cast<std::size_t>(PG_NARGS())));
    call->html = expression->funcresulttype;
    const Oid array = get_array_type(call->html);
    for (int i = 1; i < PG_NARGS(); i++) {
        const Oid type = get_fn_expr_argtype(flinfo, i);
        call->arguments[i].kind = type == call->html ? Kind::html : type == array ? Kind::html_array : Kind::value;
        Oid output = InvalidOid;
        bool varlena = false;
        getTypeOutputInfo(type, &output, &varlena);
        fmgr_info_cxt(output, &call->arguments[i].output, flinfo->fn_mcxt);
    }
    flinfo->fn_extra = call;
    return call;
}

void append_text(StringInfo page, Datum value) {
    const text* html = DatumGetTextPP(value);
    appendBinaryStringInfo(page, VARDATA_ANY(html), static_cast<int>(VARSIZE_ANY_EXHDR(html)));
}

void append_array(StringInfo page, Datum value, Oid html) {
    Datum* parts = nullptr;
    bool* nulls = nullptr;
    int count = 0;
    deconstruct_array(DatumGetArrayTypeP(value), html, -1, false, TYPALIGN_INT, &parts, &nulls, &count);
    for (int i = 0; i < count; i++) {
        if (!nulls[i]) {
            append_text(page, parts[i]);
        }
    }
}

void append_value(StringInfo page, char* value) {
    const int bytes = static_cast<int>(std::strlen(value));
    // SQL_ASCII says nothing about its bytes: what is no UTF-8 is shown as such.
    const char* utf8 = GetDatabaseEncoding() == PG_SQL_ASCII ? value : pg_server_to_any(value, bytes, PG_UTF8);
    const std::string_view view(utf8);
    if (view.size() > MaxAllocSize / tandem::kHtmlGrowth) {
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the value is too long for a page"),
                        errdetail("It has %zu bytes.", view.size())));
    }
    enlargeStringInfo(page, static_cast<int>(view.size() * tandem::kHtmlGrowth));
    page->len = static_cast<int>(tandem::put_html(page->data + page->len, view) - page->data);
    page->data[page->len] = '\0';
}

Datum html(FunctionCallInfo fcinfo) {
    auto* call = static_cast<Call*>(fcinfo->flinfo->fn_extra);
    if (call == nullptr) {
        call = prepare(fcinfo);
    }
    if (PG_ARGISNULL(0)) {
        PG_RETURN_NULL();
    }
    const text* argument = PG_GETARG_TEXT_PP(0);
    std::string_view rest(VARDATA_ANY(argument), VARSIZE_ANY_EXHDR(argument));
    StringInfoData page;
    initStringInfo(&page);
    int next = 1;
    for (;;) {
        const std::size_t at = rest.find("{}");
        appendBinaryStringInfo(&page, rest.data(), static_cast<int>(std::min(at, rest.size())));
        if (at == std::string_view::npos) {
            break;
        }
        rest.remove_prefix(at + 2);
        if (next < PG_NARGS() && !PG_ARGISNULL(next)) {
            const Datum value = PG_GETARG_DATUM(next);
            Argument& how = call->arguments[next];
            if (how.kind == Kind::html) {
                append_text(&page, value);
            } else if (how.kind == Kind::html_array) {
                append_array(&page, value, call->html);
            } else {
                append_value(&page, OutputFunctionCall(&how.output, value));
            }
        }
        next++;
    }
    if (next != PG_NARGS()) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("a template with %d {} has %d value(s)", next - 1, PG_NARGS() - 1)));
    }
    PG_RETURN_TEXT_P(cstring_to_text_with_len(page.data, page.len));
}

} // namespace
} // namespace pg

TANDEM_FUNCTION(tandem_markup_in) {
    return pg::entry([&]() -> Datum {
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("a text can't become markup"),
                 errdetail("Nobody would have escaped it."), errhint("tandem.html('<p>{}</p>', value) makes markup.")));
        pg_unreachable();
    });
}

TANDEM_FUNCTION(tandem_markup_out) {
    return pg::entry([&]() -> Datum { PG_RETURN_CSTRING(TextDatumGetCString(PG_GETARG_DATUM(0))); });
}

TANDEM_FUNCTION(tandem_html) {
    return pg::entry([&] { return pg::html(fcinfo); });
}
