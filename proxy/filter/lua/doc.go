// Package lua is the HTTP filter lua: scripts look at requests and responses, change them, answer
// them, and ask other services meanwhile.
//
// A [Script] is compiled and tried once, when configuration is read. Every worker that runs it has a state of its
// own (globals are per worker, as in Envoy), which only that worker's thread touches: there are no locks. The handler of
// a stream runs as a coroutine of the worker's loop; where it waits for a body or an answer, the coroutine
// waits and the loop goes on. So a handler may wait anywhere, also inside of pcall.
//
// Scripts are trusted as configuration is, but what they do may depend on what clients send. So what a script can
// cost is bounded: instructions until it next waits or ends ([maxSteps]), steps of patterns with them, the processor's time ([maxTime]), lines
// of the log ([maxLines]), bytes of
// strings that a handler makes ([maxBytes]), the depth of calls, the elements of a list ([maxIndex]), and what its globals hold for
// long ([maxKept]; the state is then begun anew, and handlers that run end in the old one). A handler that goes beyond a bound is ended with an error, and
// its message goes on, as after any other error of a script.
//
// The interpreter is gopher-lua: Lua 5.1 with goto, as LuaJIT has it. Of the libraries there are the basic
// one, string, table, math, coroutine, bit, and of os what tells the time; nothing reads files, starts
// programs or loads code of C. LuaJIT's ffi and jit do not exist.
package lua
