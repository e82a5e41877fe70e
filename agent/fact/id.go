package fact

import "strings"

// MachineID is the installation's own id, from systemd or D-Bus; empty on systems without either.
func (h Host) MachineID() string {
	return h.firstOf("etc/machine-id", "var/lib/dbus/machine-id")
}

// SystemUUID is the hardware's: DMI on PCs, the serial number of the device tree on boards,
// else the machine id.
func (h Host) SystemUUID() string {
	id := h.firstOf("sys/class/dmi/id/product_uuid", "sys/devices/virtual/dmi/id/product_uuid",
		"proc/device-tree/system-id", "proc/device-tree/serial-number")
	if id == "" {
		return h.MachineID()
	}
	return strings.ToLower(id)
}

// BootID is new with each boot of the kernel.
func (h Host) BootID() string { return h.read("proc/sys/kernel/random/boot_id") }
