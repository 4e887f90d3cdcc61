// Package document reads Envoy's configuration from files: YAML, JSON or one of protobuf's own forms becomes a protobuf message.
//
// What is accepted, and what it means, is what Envoy's own readers say, which are neither YAML 1.1 nor protobuf's JSON
// mapping as Go has it. In YAML (yaml-cpp) a scalar is nothing, a yes or no, a whole number, or text: 1.10 is text and stays
// 1.10, also in a google.protobuf.Struct, and where a field wants a number the text is read as one. What is in quotes is
// text, and a key is text however it looks. There are anchors, but no merge keys; of several documents the first counts, and of
// equal keys the last, and both is noted. A message is then filled by the rules of protobuf's C++ library in the mode that
// Envoy has it in: one element may stand for a list of it, a duration or a wrapper may be written as the message that it is,
// names of enumerations are of any case, and so on. testdata has what Envoy made of many such things.
//
// Mistakes are found all at once, each with the path of its field and the line. What the fields of a message mean, and which
// of them are supported, is proxy/build's to say.
//
// What aliases stand for is bounded, and so is depth.
package document
