// What value.cpp and value_nested.cpp share.
#pragma once

#include "pg/value.hpp"

namespace pg::compare {

bool find_nested_codec(Oid type, Codec& codec);
void plan_nested(ValuePlan* plan);
void encode_nested(const ValuePlan* plan, Datum value, tandem::RowEncoder& encoder);
void encode_numeric(Datum value, tandem::RowEncoder& encoder);

} // namespace pg::compare
