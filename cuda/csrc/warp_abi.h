// What the warp's entry points are handed; mirrored in warp_abi.py.
#pragma once
#include "abi.h"

#define LV_WARP_BORDER 4   // pixels round a keyframe
#define LV_WARP_FAR 1e4f   // z-depth that stands for the background
#define LV_WARP_SOURCES 3  // keyframes that one picture is made of, at most

enum LvTrust { LV_GOOD = 0, LV_STALE = 1, LV_VOID = 2 };

// A keyframe as it is to be used for one picture.
struct LvKeyframe {
  LvView view;
  const float* color;    // [height + 2 border][width + 2 border][4] rgb, z-depth
  const float* planes;   // same shape: opacity, depth, median depth, share of the opacity in front
  const uint8_t* trust;  // [height][width] LvTrust, or 0
};

struct LvWarpSettings {
  float same, crack, edge, margin;
  int32_t life;
};
