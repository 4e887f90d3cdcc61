package lua

import (
	"context"
	"errors"
	"time"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
)

// The bounds of a handler.
const (
	maxSteps = 5_000_000 // instructions and steps of patterns until it waits or ends
	maxLines = 1000      // of the log, with all that it waits for

	// maxTime is maxSteps by the processor's time: what one function of a library does is one instruction, and others wait for it.
	maxTime  = 100 * time.Millisecond
	maxBytes = 64 << 20 // of strings that it makes
	maxKept  = 32 << 20 // what globals hold
	maxCalls = 1000     // depth; an error costs the interpreter its square
	maxTries = 50       // pcalls inside of pcalls
	maxDate  = 1 << 10  // of a format of os.date
	maxIndex = 1 << 16  // of a list: to set the element i of an empty one takes room for i, in one instruction
)

// What is taken to be made by what is not counted where it is made. It decides when the globals are measured.
const (
	perRun    = 1 << 10 // a handler
	perStep   = 32      // an instruction: it may make a table or a function
	perThread = 4 << 10 // a coroutine
)

// The bounds of a filter's handlers that wait on one worker, together: a client decides how many do, and for how long.
const (
	maxWaiting = 64 << 20     // of what they have made
	smallWait  = 16 << 10     // one that has made no more is not counted: a stream has as much without it
	perWait    = perStep >> 2 // most of what an instruction makes is not held
)

func init() { lua.MaxArrayIndex = maxIndex } // before anything runs: it is the interpreter's only bound here

var (
	errSteps = errors.New("the script has run too long")
	errBytes = errors.New("the script has made too much text")
	errLines = errors.New("the script has logged too much")
	errTries = errors.New("pcalls are nested too deep")
	errGone  = errors.New("the stream is gone")
	errHeld  = errors.New("handlers that wait hold too much")
)

// A meter counts what runs in a state. To the interpreter it is a context: it asks whether the context is done before
// every instruction.
type meter struct {
	left  int           // instructions
	until time.Time     // when the processor's time is looked at; zero: as long after the clock is first looked at
	spent time.Duration // the thread's time of the processor at the first look
	bytes int           // that may yet be made
	made  int           // since the globals were last measured
	tries int           // pcalls that are under way
	every int           // so many instructions, less one, go by until the clock is looked at; a power of two
	err   error         // why nothing more may run
	done  chan struct{}
}

func newMeter() *meter {
	m := &meter{done: make(chan struct{}), every: 1<<8 - 1}
	close(m.done)
	return m
}

// fill lets so much run.
func (m *meter) fill(bytes int) {
	m.left, m.bytes, m.err, m.until = maxSteps, bytes, nil, time.Time{}
}

// restore goes back to what was counted before, but for what has been made in all.
func (m *meter) restore(before meter) {
	before.made, before.every = m.made, m.every
	*m = before
}

// Done counts an instruction.
func (m *meter) Done() <-chan struct{} {
	if m.left--; m.left&m.every == 0 && m.err == nil && m.late() {
		m.err = errSteps
	}
	if m.left < 0 || m.err != nil {
		if m.err == nil {
			m.err = errSteps
		}
		return m.done
	}
	return nil
}

// late looks at the clock. Most handlers end before anybody has to. What counts is the processor's time, which costs a system call and is
// asked for when as much has gone by: a busy machine, or a control group that has used up its share, is not the script's fault.
func (m *meter) late() bool {
	now := time.Now()
	if m.until.IsZero() {
		m.until, m.spent = now.Add(maxTime), processor()
	}
	if !now.After(m.until) {
		return false
	}
	left := maxTime - (processor() - m.spent)
	m.until = now.Add(left)
	return left <= 0
}

// clockEvery is how many steps go by (a power of two of them) until the clock is looked at.
const clockEvery = 12

// steps counts more than one.
func (m *meter) steps(n int) error {
	before := m.left
	m.left -= n
	switch {
	case m.err != nil:
	case m.left < 0:
		m.err = errSteps
	case (before-1)>>clockEvery != (m.left-1)>>clockEvery && m.late():
		m.err = errSteps
	}
	return m.err
}

// holds is how much a handler that is about to wait may hold: some of what it has made.
func (m *meter) holds() int { return maxBytes - m.bytes + perWait*(maxSteps-max(m.left, 0)) }

// ran notes that a handler has run.
func (m *meter) ran() { m.made += perRun + perStep*(maxSteps-max(m.left, 0)) }

// longText is a text of which one instruction, == or <, may take a millisecond. Where there is one, the clock is looked
// at more often.
const longText = 1 << 20

// make counts bytes that are about to be made.
func (m *meter) make(n int) error {
	m.made += n
	if n >= longText {
		m.every = 1<<4 - 1
	}
	if m.bytes -= n; m.bytes < 0 && m.err == nil {
		m.err = errBytes
	}
	if m.err != nil {
		return m.err
	}
	return m.steps(n >> 6)
}

func (m *meter) Err() error                  { return m.err }
func (m *meter) Deadline() (time.Time, bool) { return time.Time{}, false }
func (m *meter) Value(any) any               { return nil }

var _ context.Context = (*meter)(nil)

// concat is the name of the function that stands for "..": one that no script can write.
const concat = "(concat)"

// metered returns a chunk that takes that function as its argument and returns the chunk that was given, as a function that
// calls it for every concatenation, which the interpreter would do in one instruction, however long the text.
func metered(chunk []ast.Stmt) []ast.Stmt {
	line := 1
	if len(chunk) > 0 {
		line = chunk[0].Line()
	}
	all := &ast.Comma3Expr{}
	all.SetLine(line)
	all.SetLastLine(line)
	first := &ast.LocalAssignStmt{Names: []string{concat}, Exprs: []ast.Expr{all}}
	first.SetLine(line)
	first.SetLastLine(line)
	stmts(chunk)
	inner := &ast.FunctionExpr{ParList: &ast.ParList{HasVargs: true, Names: []string{}}, Stmts: chunk}
	inner.SetLine(line)
	inner.SetLastLine(line)
	if len(chunk) > 0 {
		inner.SetLastLine(chunk[len(chunk)-1].LastLine())
	}
	last := &ast.ReturnStmt{Exprs: []ast.Expr{inner}}
	last.SetLine(line)
	last.SetLastLine(inner.LastLine())
	return []ast.Stmt{first, last}
}

func stmts(list []ast.Stmt) {
	for _, s := range list {
		stmt(s)
	}
}

func stmt(s ast.Stmt) {
	switch s := s.(type) {
	case *ast.AssignStmt:
		exprs(s.Lhs)
		exprs(s.Rhs)
	case *ast.LocalAssignStmt:
		exprs(s.Exprs)
	case *ast.FuncCallStmt:
		expr(&s.Expr)
	case *ast.DoBlockStmt:
		stmts(s.Stmts)
	case *ast.WhileStmt:
		expr(&s.Condition)
		stmts(s.Stmts)
	case *ast.RepeatStmt:
		expr(&s.Condition)
		stmts(s.Stmts)
	case *ast.IfStmt:
		expr(&s.Condition)
		stmts(s.Then)
		stmts(s.Else)
	case *ast.NumberForStmt:
		expr(&s.Init)
		expr(&s.Limit)
		if s.Step != nil {
			expr(&s.Step)
		}
		stmts(s.Stmts)
	case *ast.GenericForStmt:
		exprs(s.Exprs)
		stmts(s.Stmts)
	case *ast.FuncDefStmt:
		stmts(s.Func.Stmts)
	case *ast.ReturnStmt:
		exprs(s.Exprs)
	}
}

func exprs(list []ast.Expr) {
	for i := range list {
		expr(&list[i])
	}
}

func expr(at *ast.Expr) {
	switch e := (*at).(type) {
	case *ast.AttrGetExpr:
		expr(&e.Object)
		expr(&e.Key)
	case *ast.TableExpr:
		for _, f := range e.Fields {
			if f.Key != nil {
				expr(&f.Key)
			}
			expr(&f.Value)
		}
	case *ast.FuncCallExpr:
		if e.Func != nil {
			expr(&e.Func)
		}
		if e.Receiver != nil {
			expr(&e.Receiver)
		}
		exprs(e.Args)
	case *ast.LogicalOpExpr:
		expr(&e.Lhs)
		expr(&e.Rhs)
	case *ast.RelationalOpExpr:
		expr(&e.Lhs)
		expr(&e.Rhs)
	case *ast.ArithmeticOpExpr:
		expr(&e.Lhs)
		expr(&e.Rhs)
	case *ast.UnaryMinusOpExpr:
		expr(&e.Expr)
	case *ast.UnaryNotOpExpr:
		expr(&e.Expr)
	case *ast.UnaryLenOpExpr:
		expr(&e.Expr)
	case *ast.FunctionExpr:
		stmts(e.Stmts)
	case *ast.StringConcatOpExpr:
		name := &ast.IdentExpr{Value: concat}
		name.SetLine(e.Line())
		name.SetLastLine(e.LastLine())
		call := &ast.FuncCallExpr{Func: name, Args: operands(nil, e), AdjustRet: true}
		call.SetLine(e.Line())
		call.SetLastLine(e.LastLine())
		exprs(call.Args)
		*at = call
	}
}

// operands lists what a chain of concatenations, which groups to the right, joins.
func operands(list []ast.Expr, e *ast.StringConcatOpExpr) []ast.Expr {
	list = append(list, single(e.Lhs))
	if more, ok := e.Rhs.(*ast.StringConcatOpExpr); ok && len(list) < 200 {
		return operands(list, more)
	}
	return append(list, single(e.Rhs))
}

// single has a call or "..." give one value, as an operand does.
func single(e ast.Expr) ast.Expr {
	switch e := e.(type) {
	case *ast.FuncCallExpr:
		e.AdjustRet = true
	case *ast.Comma3Expr:
		e.AdjustRet = true
	}
	return e
}
