#include "ext4/fixed_zones.h"

#include <algorithm>
#include <limits>

namespace outboard::ext4 {

FixedZones::FixedZones(const format::Geometry &geometry, std::vector<BlockRun> zones) : geometry_(geometry) {
  std::ranges::sort(zones, {}, &BlockRun::start);
  for (const BlockRun &zone : zones) {
    if (zone.count == 0) continue;
    if (!zones_.empty() && zone.start < zones_.back().end()) conflict_ = zone.start;
    if (zones_.empty() || zone.start > zones_.back().end()) {
      zones_.push_back(zone);
      continue;
    }
    const BlockNumber end = std::max(zone.end(), zones_.back().end());
    const std::uint64_t joined = end - zones_.back().start;
    if (joined <= std::numeric_limits<std::uint32_t>::max()) zones_.back().count = static_cast<std::uint32_t>(joined);
    else zones_.push_back({zones_.back().end(), static_cast<std::uint32_t>(end - zones_.back().end())});
  }
}

bool FixedZones::touches(BlockRun run) const {
  if (run.count == 0) return false;
  // The first zone that ends behind the run's start; disjoint and sorted, so ends are sorted too.
  const auto zone = std::ranges::upper_bound(zones_, run.start, {}, &BlockRun::end);
  if (zone != zones_.end() && zone->start < run.end()) return true;
  return geometry_.overlaps_static_metadata(run.start, run.count);
}

}  // namespace outboard::ext4
