package cel

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
)

// What a request may have us do in one call is bounded here.
const (
	maxPattern = 100       // instructions that a pattern becomes, as in Envoy; and bytes of one that is no constant
	maxText    = 256 << 10 // bytes of a text that + makes
)

var (
	errGrow    = errors.New("texts and lists do not grow here")
	errText    = fmt.Errorf("+ makes a text of more than %d bytes", maxText)
	errPattern = fmt.Errorf("a pattern that is no constant has more than %d bytes", maxPattern)
	errZone    = errors.New("a time zone that is no constant has a name, want an offset such as +01:00")
)

// bound replaces calls whose second argument is a request's to choose. The library's own limit for patterns is of
// no use for these: it compiles all of a pattern before it counts, and a{1000}, some thousand times, takes seconds.
func bound(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	call, ok := i.(interpreter.InterpretableCall)
	if !ok || len(call.Args()) != 2 {
		return i, nil
	}
	constant, isConstant := call.Args()[1].(interpreter.InterpretableConst)
	switch {
	case call.Function() == overloads.Matches && isConstant:
		if pattern, ok := constant.Value().(types.String); ok {
			if _, err := types.CompileRegexWithLimit(string(pattern), maxPattern); err != nil {
				return nil, err
			}
		}
	case call.Function() == overloads.Matches:
		return instead(call, matches), nil
	case zoned[call.Function()] && !isConstant:
		return instead(call, func(at, zone ref.Val) ref.Val {
			if name, ok := zone.(types.String); ok && !strings.Contains(string(name), ":") {
				return types.WrapErr(errZone) // to find it by its name takes reading files
			}
			if t, ok := at.(types.Timestamp); ok {
				return t.Receive(call.Function(), "", []ref.Val{zone})
			}
			return types.MaybeNoSuchOverloadErr(at)
		}), nil
	}
	return i, nil
}

// instead is a call of two arguments that does something else.
func instead(call interpreter.InterpretableCall, f func(a, b ref.Val) ref.Val) interpreter.InterpretableV2 {
	return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), func(args ...ref.Val) ref.Val {
		for _, v := range args {
			if types.IsUnknownOrError(v) {
				return v
			}
		}
		return f(args[0], args[1])
	})
}

// matches looks for a pattern that a request has brought.
func matches(text, pattern ref.Val) ref.Val {
	t, ok := text.(types.String)
	p, isText := pattern.(types.String)
	if !ok || !isText {
		return types.NoSuchOverloadErr()
	}
	if len(p) > maxPattern {
		return types.WrapErr(errPattern)
	}
	re, err := types.CompileRegexWithLimit(string(p), maxPattern)
	if err != nil {
		return types.WrapErr(err)
	}
	return types.Bool(re.MatchString(string(t)))
}

// zoned are the functions that take a time zone.
var zoned = map[string]bool{
	overloads.TimeGetFullYear: true, overloads.TimeGetMonth: true, overloads.TimeGetDayOfYear: true, overloads.TimeGetDayOfMonth: true,
	overloads.TimeGetDate: true, overloads.TimeGetDayOfWeek: true, overloads.TimeGetHours: true, overloads.TimeGetMinutes: true,
	overloads.TimeGetSeconds: true, overloads.TimeGetMilliseconds: true,
}

// add is +, which joins texts only if it may, and never lists.
func add(concat bool) func(a, b ref.Val) ref.Val {
	return func(a, b ref.Val) ref.Val {
		switch a := a.(type) {
		case types.String, types.Bytes:
			if !concat {
				return types.WrapErr(errGrow)
			}
			if bytesOf(a)+bytesOf(b) > maxText {
				return types.WrapErr(errText)
			}
			return a.(traits.Adder).Add(b)
		case types.Int, types.Uint, types.Double, types.Duration, types.Timestamp:
			return a.(traits.Adder).Add(b)
		}
		return types.MaybeNoSuchOverloadErr(a)
	}
}

// bytesOf is the length of a text.
func bytesOf(v ref.Val) int {
	switch v := v.(type) {
	case types.String:
		return len(v)
	case types.Bytes:
		return len(v)
	}
	return 0
}
