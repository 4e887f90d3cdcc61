//go:build !unix

package proxy

import "context"

func watchReopen(context.Context, ...func()) {}
