package xdsclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/base/file"
)

// MaxFile is how large a file of resources may be; a message of a control plane may be as large.
const MaxFile = 256 << 20

// A Place is a file of resources, and the directory that is watched for it: the
// file's own, or one in which a link on the way to the file is moved.
type Place struct{ Path, Directory string }

// watched is the directory that tells of changes.
func (p Place) watched() string {
	if p.Directory != "" {
		return p.Directory
	}
	return filepath.Dir(p.Path)
}

// concerns reports whether something that came into the directory means the file.
// Envoy goes by moves only: whoever writes into a file that is read would be read in
// the middle of it.
func (p Place) concerns(name string) bool {
	if p.Directory != "" {
		return filepath.Dir(name) == filepath.Clean(p.Directory)
	}
	return filepath.Clean(name) == filepath.Clean(p.Path)
}

// A Source is a file and what is wanted of it.
type Source struct {
	Type  string
	Place Place
	All   bool     // everything: what is not in the file any more has gone
	Names []string // else these
	// Data says that the file holds no resources: the one resource that Names lists refers to it, and is to be
	// read again when it changes.
	Data bool
}

func (s *Source) key() string {
	key := s.Type + " " + s.Place.Path + " " + s.Place.Directory
	if s.Data {
		key += " " + s.Names[0]
	}
	return key
}

// A FileConsumer takes what files hold.
type FileConsumer interface {
	// Sources returns what is wanted of files now. It is asked at the start and after
	// every [Files.Wake].
	Sources() []Source
	// Apply takes an update in and returns what it does not accept of it.
	Apply(Update) []Refusal
	// Reread reads a resource anew that refers to a file which has changed. An error leaves what there was in force.
	Reread(typeURL, name string) error
	// Failed tells of a file that cannot be read, or does not parse.
	Failed(Source)
	// Foreign tells of a file that can be read and of which nothing is taken: it has not what is wanted, or something else.
	Foreign(Source)
}

// Files is a subscription to files, Envoy's path_config_source. A file that does not
// parse, or a resource in it that is refused, leaves what was there in force.
type Files struct {
	consumer FileConsumer
	parse    func(name string, text []byte) (*discovery.DiscoveryResponse, error)
	log      *slog.Logger
	wake     chan struct{} // holds one token
	read     map[string]*followed
}

// followed is the state of one source.
type followed struct {
	Source
	had []string // the names in the file when it was read last
}

// NewFiles returns a subscription; Run makes it work.
func NewFiles(c FileConsumer, parse func(name string, text []byte) (*discovery.DiscoveryResponse, error), log *slog.Logger) *Files {
	return &Files{consumer: c, parse: parse, log: log, wake: make(chan struct{}, 1), read: map[string]*followed{}}
}

// Wake makes it ask again what is wanted. It does not wait.
func (f *Files) Wake() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Run follows files until ctx ends, and returns ctx's error.
func (f *Files) Run(ctx context.Context) error {
	w, err := newMoves()
	if err != nil {
		return fmt.Errorf("watch files: %w", err)
	}
	defer w.close()
	for {
		f.refresh(w)
		select {
		case <-f.wake:
		case name := <-w.names:
			f.changed(name)
		case err := <-w.errs:
			f.log.Warn("watch files", "error", err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// refresh begins to follow what is new, and forgets what nobody wants any more.
func (f *Files) refresh(w *moves) {
	wanted := map[string]bool{}
	for _, s := range f.consumer.Sources() {
		key := s.key()
		wanted[key] = true
		if old := f.read[key]; old != nil && slices.Equal(old.Names, s.Names) {
			continue
		}
		if err := w.add(s.Place.watched()); err != nil {
			f.log.Warn("watch files", "directory", s.Place.watched(), "error", err)
		}
		now := &followed{Source: s}
		if f.read[key] = now; !s.Data {
			f.load(now)
		}
	}
	for key := range f.read {
		if !wanted[key] {
			delete(f.read, key) // its directory stays watched: that costs next to nothing
		}
	}
}

// changed reads the files anew that something in a watched directory is about.
func (f *Files) changed(name string) {
	again := map[[2]string]bool{} // a certificate and its key may come by one move
	for _, s := range f.read {
		switch {
		case !s.Place.concerns(name):
		case s.Data:
			again[[2]string{s.Type, s.Names[0]}] = true
		default:
			f.load(s)
		}
	}
	for resource := range again {
		if err := f.consumer.Reread(resource[0], resource[1]); err != nil {
			f.log.Warn("configuration refused", "path", name, "resource", resource[1], "reason", err)
		}
	}
}

// load reads a file and hands over what is wanted of it.
func (f *Files) load(s *followed) {
	text, err := file.Read(s.Place.Path, MaxFile)
	var r *discovery.DiscoveryResponse
	if err == nil {
		r, err = f.parse(s.Place.Path, text)
	}
	if err != nil {
		f.log.Warn("configuration file", "path", s.Place.Path, "error", err)
		if legible(err) {
			f.consumer.Foreign(s.Source)
		} else {
			f.consumer.Failed(s.Source)
		}
		return
	}
	u, err := s.update(r)
	if err != nil {
		f.log.Warn("configuration refused", "path", s.Place.Path, "reason", err)
		f.consumer.Foreign(s.Source)
		return
	}
	if !s.All && len(u.Resources) == 0 && (len(s.had) > 0 || s.Type == ExtensionType) {
		f.log.Warn("configuration refused", "path", s.Place.Path, "resource", strings.Join(s.Names, ", "), "reason", fmt.Sprintf("is not there; the file has %s", cmp.Or(strings.Join(s.had, ", "), "nothing")))
		f.consumer.Foreign(s.Source)
		return
	}
	for _, refused := range f.consumer.Apply(u) {
		f.log.Warn("configuration refused", "path", s.Place.Path, "resource", refused.Name, "reason", refused.Err)
	}
}

// legible reports whether a text that was refused could be read all the same: fields that nobody knows are all that is wrong with it.
func legible(err error) bool {
	list, ok := errors.AsType[field.List](err)
	return ok && !slices.ContainsFunc(list, func(e *field.Error) bool { return !e.Unknown })
}

// update turns a file's content into what a consumer is to judge.
func (s *followed) update(r *discovery.DiscoveryResponse) (Update, error) {
	u := Update{Type: s.Type, Place: s.Place, Version: r.GetVersionInfo()}
	var names []string
	for i, body := range r.GetResources() {
		if body.GetTypeUrl() != s.Type {
			return u, fmt.Errorf("resources[%d]: found type %q, want %q", i, body.GetTypeUrl(), s.Type)
		}
		name, err := NameOf(body)
		if err != nil {
			return u, fmt.Errorf("resources[%d]: %w", i, err)
		}
		if slices.Contains(names, name) {
			return u, fmt.Errorf("duplicate %s %s found", strings.ToLower(s.Type[strings.LastIndexByte(s.Type, '.')+1:]), name)
		}
		names = append(names, name)
		if s.All || slices.Contains(s.Names, name) {
			u.Resources = append(u.Resources, Resource{Name: name, Version: r.GetVersionInfo(), Body: body})
		}
	}
	for _, name := range s.had {
		if s.All && !slices.Contains(names, name) {
			u.Removed = append(u.Removed, name)
		}
	}
	s.had = names
	return u, nil
}
