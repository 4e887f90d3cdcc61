package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/cli-runtime/pkg/resource"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/load"
)

// stdin is what positions call the standard input.
const stdin = "stdin"

// documents reads what the flags -f, -k and -R name, as `malla up` reads its
// directory: every document with its place, and what cannot be read. All sources are
// read by one reader, so that a mistake is told alike wherever it stands.
func documents(ctx context.Context, o resource.FilenameOptions, in io.Reader) ([]*load.Doc, field.List) {
	var docs []*load.Doc
	var errs field.List
	text := func(name string, data []byte, err error) {
		if err != nil {
			errs = append(errs, &field.Error{Pos: name, Msg: err.Error()})
			return
		}
		d, e := load.Bytes(name, data)
		docs, errs = append(docs, d...), append(errs, e...)
	}
	path := func(name string) {
		r, err := load.Path(name, o.Recursive)
		if err != nil {
			errs = append(errs, &field.Error{Pos: name, Msg: reason(err)})
			return
		}
		docs, errs = append(docs, r.Docs...), append(errs, r.Errors...)
	}
	for _, name := range o.Filenames {
		switch {
		case name == "-":
			data, err := bounded(in)
			text(stdin, data, err)
			in = strings.NewReader("") // it is read once, however often it is named
		case remote(name):
			data, err := fetch(ctx, name)
			text(name, data, err)
		default:
			for _, match := range matching(name) {
				if info, err := os.Stat(match); err == nil && !info.IsDir() && !info.Mode().IsRegular() {
					data, err := pipe(match)
					text(match, data, err)
					continue
				}
				path(match)
			}
		}
	}
	switch {
	case o.Kustomize == "":
	case load.Kustomized(o.Kustomize):
		path(o.Kustomize)
	default:
		errs = append(errs, &field.Error{Pos: o.Kustomize, Msg: "no kustomization.yaml; -f " + o.Kustomize + " reads its files"})
	}
	return docs, errs
}

func remote(name string) bool {
	return strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://")
}

// matching is the files that a pattern in quotes stands for, as in kubectl.
func matching(name string) []string {
	if _, err := os.Stat(name); err != nil && strings.ContainsAny(name, "*?[") {
		if all, err := filepath.Glob(name); err == nil && len(all) > 0 {
			return all
		}
	}
	return []string{name}
}

// pipe reads what is no ordinary file: <(command) of a shell.
func pipe(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, errors.New(reason(err))
	}
	defer f.Close()
	return bounded(f)
}

// bounded reads all of r, if that is not more than a file may have.
func bounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, load.MaxFile+1))
	if err == nil && len(data) > load.MaxFile {
		err = fmt.Errorf("more than %d bytes", load.MaxFile)
	}
	return data, err
}

// retryAfter is how long a server has to get well; tests have no time.
var retryAfter = time.Second

// fetch reads what is at an address; a server that says it is its own fault is asked three times, as kubectl does.
func fetch(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for try := 1; ; try++ {
		data, again, err := fetchOnce(ctx, url)
		if err == nil || !again || try == 3 {
			return data, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(retryAfter):
		}
	}
}

func fetchOnce(ctx context.Context, url string) (data []byte, again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, false, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, resp.StatusCode >= http.StatusInternalServerError, errors.New("the server answers " + resp.Status)
	}
	data, err = bounded(resp.Body)
	return data, false, err
}

// reason is an error about a file without the file's name, which stands before it.
func reason(err error) string {
	var of *os.PathError
	if errors.As(err, &of) {
		return of.Err.Error()
	}
	return err.Error()
}
