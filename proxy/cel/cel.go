package cel

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Options are what an expression may do beside what every expression may: CelExpressionConfig.
type Options struct {
	Convert bool // string(x)
	Concat  bool // 'a' + 'b'
}

// An Expression is compiled. Any number of goroutines may compute it.
type Expression struct{ program cel.Program }

// A Lookup finds what the first name of an attribute stands for, and reports whether that exists.
type Lookup func(root string) (Value, bool)

// Compile compiles an expression about names.
func Compile(text string, names Names, o Options) (*Expression, error) {
	environment, err := environments[o]()
	if err != nil {
		return nil, err
	}
	parsed, issues := environment.Parse(text)
	if err := issues.Err(); err != nil {
		return nil, fmt.Errorf("expression %q: %s", text, reason(issues))
	}
	if err := check(parsed.NativeRep().Expr(), names, environment); err != nil {
		return nil, fmt.Errorf("expression %q: %w", text, err)
	}
	program, err := environment.Program(parsed, cel.EvalOptions(cel.OptOptimize), cel.CustomDecoratorV2(bound))
	if err != nil {
		return nil, fmt.Errorf("expression %q: %w", text, err)
	}
	return &Expression{program}, nil
}

// reason is the first thing that is wrong with a text, in one line.
func reason(issues *cel.Issues) string {
	first := issues.Errors()[0]
	return fmt.Sprintf("column %d: %s", max(first.Location.Column(), 0)+1, first.Message)
}

// eval computes the expression.
func (e *Expression) eval(l Lookup) (ref.Val, bool) {
	v, _, err := e.program.Eval(activation(l))
	return v, err == nil && v != nil && !types.IsUnknownOrError(v)
}

// Holds reports whether the expression is true. An error is not, nor is what is neither true nor false.
func (e *Expression) Holds(l Lookup) bool {
	v, ok := e.eval(l)
	return ok && v == types.True
}

// activation is a Lookup as cel-go wants it. It also asks for request.path and its like as one name, which nothing has.
type activation Lookup

func (a activation) ResolveName(name string) (any, bool) {
	if strings.Contains(name, ".") {
		return nil, false
	}
	v, ok := a(strings.TrimPrefix(name, "."))
	return v, ok
}

func (activation) Parent() cel.Activation { return nil }

// environments are what expressions are compiled in, by what they may do; made when they are needed.
var environments = func() map[Options]func() (*cel.Env, error) {
	all := map[Options]func() (*cel.Env, error){}
	for _, o := range []Options{{}, {Convert: true}, {Concat: true}, {Convert: true, Concat: true}} {
		all[o] = sync.OnceValues(func() (*cel.Env, error) { return newEnvironment(o) })
	}
	return all
}()

func newEnvironment(o Options) (*cel.Env, error) {
	without := env.NewLibrarySubset().AddIncludedMacros(operators.Has)
	if !o.Convert {
		without.AddExcludedFunctions(env.NewFunction(overloads.TypeConvertString))
	}
	without.AddExcludedFunctions(env.NewFunction(operators.Add)) // ours is below
	return cel.NewCustomEnv(
		cel.StdLib(cel.StdLibSubset(without)),
		cel.EnableErrorOnBadPresenceTest(true),
		cel.Function(operators.Add,
			cel.Overload("add", []*cel.Type{cel.DynType, cel.DynType}, cel.DynType), cel.SingletonBinaryBinding(add(o.Concat))),
	)
}

// Names are what expressions may speak of, by what stands below them: Names{"request": {"path": nil}}. Below nil anything may stand.
type Names map[string]Names

// list is the names in their order.
func (n Names) list() string {
	all := make([]string, 0, len(n))
	for name := range n {
		all = append(all, name)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
