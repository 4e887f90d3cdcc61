// Package cel computes expressions of Google's Common Expression Language about streams, as Envoy has them:
// request.method == 'GET' && response.code >= 500.
//
// An [Expression] is compiled once, when configuration is read, against the names that there are ([Names]): a name that
// nobody will ever know, a function that there is not and a wrong pattern are mistakes there, not silence later. What
// a name stands for is asked of a [Lookup] while an expression is computed, so that nothing is prepared that it
// does not ask for. An error (a field that the request does not have, a text compared with a number) is no result.
//
// How long an expression takes is bounded by its length and by that of the texts that it looks at: there are no loops
// (all, exists, map), patterns are small and take linear time, and texts grow only where [Options] allow it, to 256 KiB.
// The language itself is google/cel-go's; it is set up when the first expression is compiled, so that a
// proxy without one pays nothing.
//
// Which attributes a stream has is not known here: package access says that of its records.
package cel
