// Package build reads Envoy's configuration.
//
// It is the only place of the proxy that knows protobuf: listeners, routes,
// clusters, endpoints and secrets go in as Envoy's messages and come out as the
// plain structs of proxy/listen, stream, tcp, route, cluster and tls.
//
// Nothing is ignored in silence. A table ([Messages]) says of every field of every
// message that can be reached whether it is read, accepted without effect (and
// why), or refused; [Check] walks a message by reflection and refuses, with its
// path, whatever the table does not allow, fields that this build has never heard
// of included. docs/xds.md and the pages below it are printed from the same table,
// and testdata/fields says of every field what shows that it works.
//
// A [Store] keeps the resources of one proxy by name. It takes updates in, refuses
// the bad ones and keeps their last good version, says which further resources are
// needed, and hands out a [Picture]: the listeners, clusters and routes that are
// complete. A listener is complete when the routes, clusters, endpoints and secrets
// that it needs are there, or when their time to arrive (initial_fetch_timeout) is
// over; until then its predecessor stays.
//
// Sockets, the wire protocol and the clock belong to others.
package build
