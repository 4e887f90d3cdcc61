package model

import "slices"

// grpcCodes are the statuses of gRPC, by number.
var grpcCodes = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// GRPCCode returns the number of a gRPC status, and whether there is one of that name.
func GRPCCode(name string) (uint32, bool) {
	i := slices.Index(grpcCodes[:], name)
	return uint32(max(i, 0)), i >= 0
}

// GRPCCodes returns the names of the statuses of gRPC, by number.
func GRPCCodes() []string { return slices.Clone(grpcCodes[:]) }
