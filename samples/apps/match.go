package apps

import "strings"

// Match reports whether an image's name fits a pattern.
//
// A star stands for any run of characters, slashes too. A pattern without a
// slash means images of Docker Hub's library only, so that "nginx*" is not
// "nginx/nginx-ingress". A digest is not part of the name, and neither is
// "docker.io/" or "docker.io/library/", which people write or leave out. A pattern
// without a tag means every tag: "nginx" is "nginx:1.27" too.
func Match(pattern, image string) bool {
	image, _, _ = strings.Cut(image, "@")
	image = strings.TrimPrefix(image, "docker.io/")
	image = strings.TrimPrefix(image, "index.docker.io/")
	image = strings.TrimPrefix(image, "library/")
	if !strings.Contains(pattern, "/") && strings.Contains(image, "/") {
		return false
	}
	if untagged(pattern) == pattern && glob(pattern, untagged(image)) {
		return true
	}
	return glob(pattern, image)
}

// untagged takes the tag off an image's name; a registry's port is none.
func untagged(image string) string {
	if i := strings.LastIndexByte(image, ':'); i >= 0 && !strings.Contains(image[i:], "/") {
		return image[:i]
	}
	return image
}

// glob matches s against a pattern whose only special character is the star.
func glob(pattern, s string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return s == pattern
	}
	s, ok := strings.CutPrefix(s, head)
	if !ok {
		return false
	}
	parts := strings.Split(rest, "*")
	last := parts[len(parts)-1]
	for _, part := range parts[:len(parts)-1] {
		i := strings.Index(s, part) // the leftmost place leaves most for the rest
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return strings.HasSuffix(s, last)
}
