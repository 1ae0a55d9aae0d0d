"""The commands, one file each: `ssnr.cli.app` imports every file here, and the file adds its command to `app`."""
