package test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const statsPackage = module + "/proxy/stats"

// standStill lists the statistics that malla-proxy shows and nothing ever counts: Envoy shows them, dashboards ask for
// them, and what they count cannot happen here. "Set.Field" as in proxy/stats.
var standStill = map[string]string{
	"Cluster.AssignmentStale":               "endpoint_stale_after has no effect",
	"Cluster.AssignmentTimeoutReceived":     "endpoint_stale_after has no effect",
	"Cluster.UpdateEmpty":                   "an answer without resources is about no cluster: updates come by name",
	"ClusterManager.ClusterUpdated":         "hosts are replaced by one pointer: nothing is handed to workers",
	"ClusterManager.ClusterUpdatedViaMerge": "updates are not held back to be merged",
	"ClusterManager.UpdateMergeCancelled":   "updates are not held back to be merged",
	"ClusterManager.UpdateOutOfMergeWindow": "updates are not held back to be merged",
	"ControlPlane.PendingRequests":          "rate_limit_settings has no effect",
	"ControlPlane.RateLimitEnforced":        "rate_limit_settings has no effect",
	"ScopedRDS.OnDemandScopes":              "scopes on demand are refused where their tables come by RDS",
	"HTTP.RqRedirect":                       "Envoy counts redirects as rq_direct_response, and this no more",
	"HTTP1.MetadataNotSupportedError":       "METADATA of HTTP/2 is not passed on",
	"HTTP1.ResponseFlood":                   "the next request is not read before the answer to the last has gone",
	"ListenerManager.ListenerStopped":       "a listener that does not accept any more is gone, and counts as removed",
	"Monitor.SkippedUpdates":                "a monitor is asked again only when it has answered",
	"RDS.UpdateEmpty":                       "an answer without resources is about no table: updates come by name",
	"SDS.KeyRotationFailed":                 "files that do not fit each other are read again, and until then the old ones hold",
	"Server.DebugAssertionFailures":         "a build for debugging's, in Envoy as well",
	"Server.DynamicUnknownFields":           "unknown fields are refused",
	"Server.EnvoyBugFailures":               "Envoy's own",
	"Server.HotRestartEpoch":                "another process takes over by its sockets, without an epoch",
	"Server.ParentConnections":              "another process takes over by its sockets, and tells no numbers",
	"Server.StaticUnknownFields":            "unknown fields are refused",
	"Server.StatsRecentLookups":             "statistics are not looked up by name",
	"TCP.EarlyDataReceivedCountTotal":       "the host is connected to at once; what comes earlier waits in the socket",
}

// A statistic that is shown and never moves is a lie: whoever looks at it believes that nothing has happened.
// Each that proxy/stats declares is written somewhere in the proxy, or standStill says why it cannot be.
func TestEveryStatisticMoves(t *testing.T) {
	proxy := users(t, statsPackage)
	declared := map[token.Position]string{}
	for _, p := range proxy {
		if p.path == statsPackage {
			declared = metrics(p)
		}
	}
	if len(declared) < 300 {
		t.Fatalf("found %d statistics in %s: this test does not know how they are declared any more", len(declared), statsPackage)
	}
	moved := map[string]bool{}
	for _, p := range proxy {
		for _, f := range p.files {
			for at := range p.written(f) {
				if name, ok := declared[at]; ok {
					moved[name] = true
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Values(declared)) {
		_, still := standStill[name]
		switch {
		case !moved[name] && !still:
			t.Errorf("stats.%s is shown and nothing writes it: count it where Envoy does, or say in standStill why that cannot happen", name)
		case moved[name] && still:
			t.Errorf("stats.%s is written now: take it out of standStill", name)
		}
	}
	for name := range standStill {
		if !slices.Contains(slices.Collect(maps.Values(declared)), name) {
			t.Errorf("standStill has %s, which proxy/stats does not declare", name)
		}
	}
}

// A checkedPackage is one package with the types of its expressions.
type checkedPackage struct {
	path  string
	set   *token.FileSet
	files []*ast.File
	info  *types.Info
}

// users type-checks a package and those that are built on it, without their tests. What they import is read from the build cache.
func users(t *testing.T, path string) []*checkedPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,GoFiles,Export,Deps", "./proxy/...", "./app/...")
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	type listed struct {
		ImportPath, Dir, Export string
		GoFiles, Deps           []string
	}
	exports := map[string]string{}
	var wanted []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p listed
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		exports[p.ImportPath] = p.Export
		if p.ImportPath == path || slices.Contains(p.Deps, path) && strings.HasPrefix(p.ImportPath, module+"/") {
			wanted = append(wanted, p)
		}
	}
	set := token.NewFileSet()
	read := importer.ForCompiler(set, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	var all []*checkedPackage
	for _, l := range wanted {
		p := &checkedPackage{path: l.ImportPath, set: set, info: &types.Info{Selections: map[*ast.SelectorExpr]*types.Selection{}}}
		for _, name := range l.GoFiles {
			f, err := parser.ParseFile(set, filepath.Join(l.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			p.files = append(p.files, f)
		}
		conf := types.Config{Importer: read}
		if _, err := conf.Check(l.ImportPath, set, p.files, p.info); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// metrics finds the fields with a tag "stat" that hold one metric, by where they are declared. Export data has no columns
// to trust, and with -trimpath no directories, so a position is the line of a file in a package.
func metrics(p *checkedPackage) map[token.Position]string {
	found := map[token.Position]string{}
	for _, f := range p.files {
		for _, decl := range f.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range gen.Specs {
				typ, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				set, ok := typ.Type.(*ast.StructType)
				if !ok {
					continue
				}
				for _, field := range set.Fields.List {
					if !isMetric(field) {
						continue
					}
					for _, name := range field.Names {
						found[line(p.set, name.Pos())] = typ.Name.Name + "." + name.Name
					}
				}
			}
		}
	}
	return found
}

func isMetric(f *ast.Field) bool {
	if f.Tag == nil || reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("stat") == "" {
		return false
	}
	kind := fmt.Sprint(f.Type)
	return slices.Contains([]string{"Counter", "Gauge", "Histogram", "Codes", "ClassCodes", "Named", "Hash", "Text"}, kind)
}

func line(set *token.FileSet, pos token.Pos) token.Position {
	at := set.Position(pos)
	dir, file := filepath.Split(at.Filename)
	return token.Position{Filename: filepath.Base(dir) + "/" + file, Line: at.Line}
}

// written yields where the fields are declared that a file moves: by a method that does, or by handing on their address.
func (p *checkedPackage) written(f *ast.File) map[token.Position]bool {
	found := map[token.Position]bool{}
	note := func(e ast.Expr) {
		if sel, ok := ast.Unparen(e).(*ast.SelectorExpr); ok {
			if s := p.info.Selections[sel]; s != nil && s.Kind() == types.FieldVal {
				found[line(p.set, s.Obj().Pos())] = true
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.UnaryExpr:
			if n.Op == token.AND {
				note(n.X)
			}
		case *ast.CallExpr:
			if method, ok := n.Fun.(*ast.SelectorExpr); ok && slices.Contains([]string{"Inc", "Dec", "Add", "Set", "Record"}, method.Sel.Name) {
				note(method.X)
			}
		}
		return true
	})
	return found
}
