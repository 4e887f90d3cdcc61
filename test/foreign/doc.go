// Package foreign holds our control plane against clients that others have written.
//
//   - grpc-go's and Node's own xDS clients and servers, without a proxy: state of the world, by name.
//
// A control plane here is the real server over a real socket, on a story of package translate/story; its clients are
// processes of their own, since gRPC reads its bootstrap once. A tool that is missing skips its test, but never with
// CI=true.
package foreign
