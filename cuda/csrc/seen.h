// What a call changes of a field for itself.
#pragma once
#include "abi.h"

inline const LvStream*& stream_of(LvField& field) { return field.stream; }

// A field as one call sees it: of a streamed one with the call's fade.
template <class Field>
struct Seen {
  Field field;
  LvStream stream;

  Seen(const Field& from, const float* fade) : field(from), stream() {
    const LvStream*& its = stream_of(field);
    if (!its) return;
    stream = *its;
    stream.fade = fade;
    its = &stream;
  }
  Seen(const Seen&) = delete;
};
