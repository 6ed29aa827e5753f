// Stands in for Gloo's header of the same name: see ../../README.md.
#pragma once

namespace gloo::transport {

class Device;
class UnboundBuffer;

} // namespace gloo::transport
