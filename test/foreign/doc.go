// Package foreign holds our control plane against clients that others have written, and our proxy against the
// control planes of others.
//
//   - grpc-go's and Node's own xDS clients and servers, without a proxy: state of the world, by name.
//   - The stories of package translate that have requests: sections "request WHERE", each with the section "answer"
//     after it. They go through our proxy (delta) and a real Envoy (state of the world) under one control plane, which must
//     answer alike; `go test ./test/foreign -run Stories -update` writes the answers down. How requests are written stands in
//     asks_test.go, what else a story may say of the servers behind in servers_test.go, of files in moved_test.go.
//   - go-control-plane's snapshots, in both forms of the protocol, with our proxy as their client.
//
// A control plane of ours here is the real server over a real socket, on a story of package translate/story; its clients are
// processes of their own, since gRPC reads its bootstrap once. A tool that is missing skips its test, but never with
// CI=true.
package foreign
