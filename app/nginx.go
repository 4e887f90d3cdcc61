package app

import (
	"os"
	"path/filepath"
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

// nginxEtc returns a directory to stand at /etc/nginx for the machine's own nginx: what
// the image has there, with the machine's lists of types and parameters. The rest of the
// machine's would bring its servers along, and its default server takes every request
// whose host no other names.
func (t *programs) nginxEtc() (string, error) {
	dir := filepath.Join(t.shims, "nginx")
	if err := os.MkdirAll(filepath.Join(dir, "conf.d"), 0o755); err != nil {
		return "", err
	}
	files := map[string][]byte{"mime.types": []byte(nginxTypes)}
	entries, _ := os.ReadDir("/etc/nginx") // a machine without it has its nginx elsewhere
	for _, e := range entries {
		if text, err := os.ReadFile(filepath.Join("/etc/nginx", e.Name())); err == nil && e.Type().IsRegular() {
			files[e.Name()] = text
		}
	}
	files["nginx.conf"], files["conf.d/default.conf"] = []byte(nginxMain), []byte(nginxDefault)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// nginxTypes is for a machine that has no list of its own.
const nginxTypes = "types { text/html html; text/css css; application/javascript js; application/json json; image/svg+xml svg; image/png png; image/jpeg jpg; }\n"
