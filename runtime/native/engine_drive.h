// Requests that arrive at given times, for measurements: they come on the device's thread, so neither JavaScript nor
// copies are part of what is measured.
#ifndef WIDEWORD_ENGINE_DRIVE_H
#define WIDEWORD_ENGINE_DRIVE_H

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/native/engine.h"

namespace wideword {

struct Arrival {
  double at_ns = 0;  // after the start
  unsigned tenant = 0;
};

// Nanoseconds from each request's arrival to its end, in the order of the arrivals; or what went wrong.
using DriveDone = std::function<void(std::vector<double> latencies_ns, const std::string& problem)>;

// The device's thread. A tenant's requests wait for each other, in the order in which they arrive.
void Drive(Engine& engine, std::vector<Arrival> arrivals, unsigned tenants, DriveDone done);

}  // namespace wideword

#endif
