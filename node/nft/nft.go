// Package nft writes nftables rules the way they read.
//
// It is a thin layer over github.com/google/nftables for the few matches and
// statements that interception (node/capture) and the mesh's router
// (local/router) need. A [Match] is part of a rule; all of a rule's matches
// must hold for its statement, the last one, to act:
//
//	chain.Add(nft.TCP(), nft.DstPort(15008), nft.Return())
//
// Chains belong to a table of family inet, so one rule can be for both
// families; matches on addresses name theirs.
package nft
