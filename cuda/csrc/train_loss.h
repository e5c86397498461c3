// From the colours of samples to the loss of rays, and from there to gradients of colours and densities.
#pragma once
#include "train_decode.h"

// Gradient of the distortion loss of one ray (Eq. 15 of arxiv.org/abs/2111.12077) by the weights of its shaded
// samples [first, end), added to `to`, which counts from first. Returns the loss. Both are times `scale`.
static double distortion_loss(const Samples& samples, int first, int end, float scale, float* to) {
  double loss = 0.0;
  float weight = 0.0f, moment = 0.0f;  // of the samples in front
  for (int i = first; i < end; i++) {
    if (samples.row[i] < 0) continue;
    const float w = samples.weight[i], m = samples.mid[i], d = samples.delta[i], spread = m * weight - moment;
    loss += (double)w * (d * w / 3.0f + 2.0f * spread);
    to[i - first] += scale * (2.0f / 3.0f * d * w + 2.0f * spread);
    weight += w;
    moment += w * m;
  }
  weight = moment = 0.0f;  // of the samples behind
  for (int i = end - 1; i >= first; i--) {
    if (samples.row[i] < 0) continue;
    const float w = samples.weight[i], m = samples.mid[i];
    to[i - first] += scale * 2.0f * (moment - m * weight);
    weight += w;
    moment += w * m;
  }
  return loss * scale;
}

// Colour and loss of ray `number`, whose samples are [first, end); gradients of its decoder rows and of its features.
// by_weight: scratch [end - first]
static void ray_loss(const TrainJob& job, int number, int first, int end, Samples& samples, Rows& rows,
                     float* by_weight, float* predicted, Group& group) {
  const LvBatch& batch = job.batch;
  float color[3] = {0.0f, 0.0f, 0.0f}, opacity = 0.0f, gradient[3], background = 0.0f;
  for (int i = first; i < end; i++) {
    const int row = samples.row[i];
    opacity += samples.weight[i];
    for (int c = 0; c < 3 && row >= 0; c++) color[c] += samples.weight[i] * rows.rgb[3 * (size_t)row + c];
  }
  for (int c = 0; c < 3; c++) {
    const float seen = color[c] + (1.0f - opacity) * job.options.background[c], shown = clamp(seen, 0.0f, 1.0f);
    const float error = shown - batch.rgb[3 * (size_t)number + c];
    predicted[c] = shown;
    gradient[c] = seen == shown ? 2.0f * error / (3.0f * (float)batch.n_rays) : 0.0f;
    background += gradient[c] * job.options.background[c];
    group.loss += (double)error * error;
  }
  for (int i = first; i < end; i++) {
    const int row = samples.row[i];
    float sum = -background;
    for (int c = 0; c < 3 && row >= 0; c++) {
      const float shade = rows.rgb[3 * (size_t)row + c];
      sum += gradient[c] * shade;
      rows.rgb_gradient[3 * (size_t)row + c] = gradient[c] * samples.weight[i] * shade * (1.0f - shade);
    }
    by_weight[i - first] = sum;
  }
  if (batch.distortion_weight != 0.0f)
    group.distortion +=
        distortion_loss(samples, first, end, batch.distortion_weight / (float)batch.n_rays, by_weight);
  float behind = 0.0f;  // sum of weight * gradient of the samples behind
  for (int i = end - 1; i >= first; i--) {
    const float decay = samples.decay[i], alpha = 1.0f - decay;
    const float length = mul_rn(samples.delta[i], job.options.distance_scale);
    const float by_alpha = samples.passed[i] * by_weight[i - first] - behind / ((1.0f - alpha) + 1e-10f);
    samples.gradient[i] = length * decay * by_alpha * samples.slope[i];
    behind += by_weight[i - first] * samples.weight[i];
  }
}
