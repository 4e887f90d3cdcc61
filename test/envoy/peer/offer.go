package peer

import (
	"fmt"
	"strings"

	"golang.org/x/net/http2"
)

// An offer is what the other side of a connection of HTTP/2 says at first: its settings, and by how much the
// connection's window grows.
type offer struct {
	said    []http2.Setting
	more    uint32
	settled bool // it has been told
}

// settings notes the first settings.
func (o *offer) settings(f *http2.SettingsFrame) {
	if f.IsAck() || o.said != nil {
		return
	}
	_ = f.ForeachSetting(func(s http2.Setting) error {
		o.said = append(o.said, s)
		return nil
	})
}

// window notes the first growth of the connection's window.
func (o *offer) window(f *http2.WindowUpdateFrame) {
	if f.StreamID == 0 && o.more == 0 && !o.settled {
		o.more = f.Increment
	}
}

// take tells the offer.
func (o *offer) take() string {
	o.settled = true
	var b strings.Builder
	for id := http2.SettingHeaderTableSize; id <= http2.SettingEnableConnectProtocol; id++ {
		for _, s := range o.said {
			if s.ID == id && (id != http2.SettingEnableConnectProtocol || s.Val != 0) { // 0 is what it is without
				fmt.Fprintf(&b, "%s ", s)
			}
		}
	}
	fmt.Fprintf(&b, "window +%d", o.more)
	return b.String()
}
