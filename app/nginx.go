package app

import (
	"os"
	"path/filepath"
	"slices"
)

// nginxMain is the image's main file: it reads conf.d, and nothing else.
const nginxMain = `worker_processes 1;
error_log /dev/stderr notice;
pid /run/nginx.pid;
events { worker_connections 1024; }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /dev/stdout;
    sendfile on;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
`

// nginxDefault is the image's only server.
const nginxDefault = `server {
    listen 80;
    server_name localhost;
    location / {
        root /usr/share/nginx/html;
        index index.html index.htm;
    }
}
`

// nginxLists are the machine's files that say nothing of its servers. What else stands
// beside them (passwords, keys) is nobody's business.
var nginxLists = []string{"mime.types", "fastcgi_params", "fastcgi.conf", "scgi_params", "uwsgi_params", "proxy_params", "koi-utf", "koi-win", "win-utf"}

// nginxEtc returns a directory to stand at /etc/nginx for the machine's own nginx: what
// the image has there, with the machine's lists of types and parameters. The rest of the
// machine's would bring its servers along, and its default server takes every request
// whose host no other names. It is made once: who runs already reads there.
func (t *programs) nginxEtc() (string, error) {
	t.etcMu.Lock()
	defer t.etcMu.Unlock()
	if t.etc != "" {
		return t.etc, nil
	}
	dir := filepath.Join(t.shims, "nginx")
	if err := os.RemoveAll(dir); err != nil { // of an earlier run
		return "", err
	}
	if err := os.MkdirAll(filepath.Join(dir, "conf.d"), 0o755); err != nil {
		return "", err
	}
	files := nginxFiles("/etc/nginx")
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return "", err
		}
	}
	t.etc = dir
	return dir, nil
}

// nginxFiles are the files of that directory, on a machine that has its own in machine.
func nginxFiles(machine string) map[string][]byte {
	files := map[string][]byte{"mime.types": []byte(nginxTypes)}
	entries, _ := os.ReadDir(machine) // a machine without it has its nginx elsewhere
	for _, e := range entries {
		if !e.Type().IsRegular() || !slices.Contains(nginxLists, e.Name()) {
			continue
		}
		if text, err := os.ReadFile(filepath.Join(machine, e.Name())); err == nil {
			files[e.Name()] = text
		}
	}
	files["nginx.conf"], files["conf.d/default.conf"] = []byte(nginxMain), []byte(nginxDefault)
	return files
}

// nginxTypes is for a machine that has no list of its own.
const nginxTypes = "types { text/html html; text/css css; application/javascript js; application/json json; image/svg+xml svg; image/png png; image/jpeg jpg; }\n"
