package cel

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// check reports the first name of an attribute or of a function that there is not.
func check(e ast.Expr, names Names, environment *cel.Env) error {
	if path, ok := pathOf(e); ok {
		return names.find(path, environment)
	}
	if e.Kind() == ast.CallKind {
		if err := checkCall(e.AsCall(), environment); err != nil {
			return err
		}
	}
	for _, part := range parts(e) {
		if err := check(part, names, environment); err != nil {
			return err
		}
	}
	return nil
}

// checkCall reports a function that there is not, or not with so many arguments.
func checkCall(call ast.CallExpr, environment *cel.Env) error {
	given := len(call.Args())
	if call.IsMemberFunction() {
		given++
	}
	f, ok := environment.Functions()[call.FunctionName()]
	if !ok {
		return fmt.Errorf("there is no function %s%s", call.FunctionName(), hints[call.FunctionName()])
	}
	for _, o := range f.OverloadDecls() {
		if len(o.ArgTypes()) == given && o.IsMemberFunction() == call.IsMemberFunction() {
			return nil
		}
	}
	return fmt.Errorf("function %s is not called like this", call.FunctionName())
}

// hints say why some functions of the language are not here.
var hints = map[string]string{
	"all": loop, "exists": loop, "exists_one": loop, "map": loop, "filter": loop,
	"string": ", as enable_string_conversion is not set",
}

const loop = ": loops (all, exists, exists_one, map, filter) are not allowed"

// parts are the expressions that an expression is made of.
func parts(e ast.Expr) (out []ast.Expr) {
	switch e.Kind() {
	case ast.CallKind:
		if call := e.AsCall(); call.IsMemberFunction() {
			return append([]ast.Expr{call.Target()}, call.Args()...)
		}
		return e.AsCall().Args()
	case ast.SelectKind:
		return []ast.Expr{e.AsSelect().Operand()}
	case ast.ListKind:
		return e.AsList().Elements()
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			out = append(out, entry.AsMapEntry().Key(), entry.AsMapEntry().Value())
		}
	case ast.StructKind:
		for _, f := range e.AsStruct().Fields() {
			out = append(out, f.AsStructField().Value())
		}
	}
	return out
}

// pathOf is the path of names that an expression is: request.headers['x'] is request, headers, x.
func pathOf(e ast.Expr) ([]string, bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return []string{strings.TrimPrefix(e.AsIdent(), ".")}, true
	case ast.SelectKind:
		path, ok := pathOf(e.AsSelect().Operand())
		return append(path, e.AsSelect().FieldName()), ok
	case ast.CallKind:
		call := e.AsCall()
		if !isIndex(call) || call.Args()[1].Kind() != ast.LiteralKind {
			return nil, false
		}
		key, text := call.Args()[1].AsLiteral().(types.String)
		path, ok := pathOf(call.Args()[0])
		return append(path, string(key)), ok && text
	}
	return nil, false
}

func isIndex(call ast.CallExpr) bool { return call.FunctionName() == operators.Index }

// find reports where a path leaves the names that there are. A name of the language itself, such as int, is one.
func (n Names) find(path []string, environment *cel.Env) error {
	below, ok := n[path[0]]
	if !ok {
		if _, ok := environment.CELTypeProvider().FindIdent(strings.Join(path, ".")); ok {
			return nil
		}
		return fmt.Errorf("there is no attribute %s, want one of %s", path[0], n.list())
	}
	for i, name := range path[1:] {
		if below == nil {
			return nil
		}
		next, ok := below[name]
		if !ok {
			at := strings.Join(path[:i+1], ".")
			return fmt.Errorf("there is no attribute %s.%s, want one of %s.{%s}", at, name, at, below.list())
		}
		below = next
	}
	return nil
}
