package nginx

import (
	"bufio"
	"embed"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// What the image has when nothing is mounted.
const (
	etc      = "/etc/nginx"
	mainFile = "/etc/nginx/nginx.conf"
	confDir  = "/etc/nginx/conf.d"
	htmlDir  = "/usr/share/nginx/html"
)

const imageConf = `
events { worker_connections 1024; }
http {
    default_type application/octet-stream;
    include /etc/nginx/conf.d/*.conf;
}
`

const imageDefault = `
server {
    listen 80;
    listen [::]:80;
    server_name localhost;
    location / {
        root /usr/share/nginx/html;
        index index.html index.htm;
    }
}
`

//go:embed html
var html embed.FS

// A disk is the files that the program may see. A pod has the machine's own
// /etc and /usr below what its manifest mounts, and an nginx that happens to be
// installed there must not show through: of /etc/nginx and the default pages
// only what is mounted counts, the rest is as in the image.
type disk struct {
	prefix string   // before every path; empty but in tests
	mounts []string // mount points
}

// thisDisk is what the process sees.
func thisDisk() disk {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return disk{} // not Linux: nothing is mounted
	}
	defer f.Close()
	return disk{mounts: mountPoints(f)}
}

// mountPoints reads the fifth field of each line (proc(5)). An overlay is no
// volume: it is what the runtime lays over a directory of the machine to have a
// place for one.
func mountPoints(r io.Reader) []string {
	var list []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		_, source, _ := strings.Cut(lines.Text(), " - ")
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && !strings.HasPrefix(source, "overlay ") {
			list = append(list, strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4]))
		}
	}
	return list
}

// mounted reports whether a file of the image is covered by a mount at or below
// the given top.
func (d disk) mounted(file, top string) bool {
	for p := path.Clean(file); p == top || strings.HasPrefix(p, top+"/"); p = path.Dir(p) {
		if slices.Contains(d.mounts, p) {
			return true
		}
	}
	return false
}

// conf returns the text of a configuration file.
func (d disk) conf(file string) (string, error) {
	if strings.HasPrefix(file, etc+"/") && !d.mounted(file, etc) {
		switch file {
		case mainFile:
			return imageConf, nil
		case confDir + "/default.conf":
			return imageDefault, nil
		case etc + "/mime.types": // built in
			return "", nil
		}
		return "", &fs.PathError{Op: "open", Path: file, Err: fs.ErrNotExist}
	}
	text, err := os.ReadFile(filepath.Join(d.prefix, filepath.FromSlash(file)))
	return string(text), err
}

// glob lists the files that an include means, sorted.
func (d disk) glob(pattern string) ([]string, error) {
	if !strings.ContainsAny(pattern, "*?[") {
		return []string{pattern}, nil
	}
	found, err := filepath.Glob(filepath.Join(d.prefix, filepath.FromSlash(pattern)))
	if err != nil {
		return nil, err
	}
	var list []string
	for _, f := range found {
		f = filepath.ToSlash(strings.TrimPrefix(f, d.prefix))
		if !strings.HasPrefix(f, etc+"/") || d.mounted(f, etc) {
			list = append(list, f)
		}
	}
	image := confDir + "/default.conf"
	if ok, _ := path.Match(pattern, image); ok && !d.mounted(image, etc) {
		list = append(list, image)
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// root is the tree of files that a root directive means.
func (d disk) root(dir string) fs.FS {
	return tree{d, path.Clean(dir), os.DirFS(filepath.Join(d.prefix, filepath.FromSlash(dir)))}
}

// A tree shows a directory with the image's default pages in their place, and over
// them what is mounted, be it all of them, a directory below or a single file.
type tree struct {
	disk  disk
	dir   string
	files fs.FS // the directory itself
}

// Open implements [fs.FS].
func (t tree) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	full := path.Join(t.dir, name)
	if (full == htmlDir || strings.HasPrefix(full, htmlDir+"/")) && !t.disk.mounted(full, htmlDir) && !t.disk.leads(full) {
		return html.Open(path.Join("html", strings.TrimPrefix(full, htmlDir)))
	}
	return t.files.Open(name)
}

// leads reports whether a mount lies below a directory.
func (d disk) leads(dir string) bool {
	return slices.ContainsFunc(d.mounts, func(m string) bool { return strings.HasPrefix(m, dir+"/") })
}
