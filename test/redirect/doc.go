// Package redirect puts malla-proxy, and the real Envoy beside it, into a network of its own that hands
// them connections meant for others, by nftables' REDIRECT and TPROXY, and looks at where they go on to and
// whom the server sees.
//
// The network is three namespaces in a row, client - router - server, made by a test that needs no rights
// for it: it runs itself again as root of a user namespace. The router forwards nothing, so what arrives has
// gone through a proxy.
package redirect
