package config

import "context"

// A Source is where configuration comes from: source/kube in real life,
// source/memory in tests.
type Source interface {
	// Run reads until ctx ends.
	Run(ctx context.Context) error
	// Snapshot returns the picture of all changes up to now.
	Snapshot() *Snapshot
	// Changes receives a value after changes; several changes may be one value.
	Changes() <-chan struct{}
	// HasSynced reports whether the first picture is complete.
	HasSynced() bool
}
