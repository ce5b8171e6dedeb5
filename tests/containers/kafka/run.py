"""What Apache Kafka's image does when it starts: KAFKA_* become server.properties, and the broker is formatted and run.

`_` stands for a dot, `__` for an underscore and `___` for a dash.
"""

import os
import subprocess
from pathlib import Path

JAVA = [
    "/opt/java/bin/java",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-cp",
    "/opt/kafka/libs/*",
]
CLUSTER = "5L6g3nShT-eMCtK--X86sw"

properties = {"log.dirs": "/tmp/kraft-combined-logs"}  # noqa: S108 - of the container
for variable, value in os.environ.items():
    prefix, _, name = variable.partition("_")
    if prefix == "KAFKA":
        dashed = "-".join(part.replace("__", "\0").replace("_", ".") for part in name.split("___"))
        properties[dashed.replace("\0", "_").lower()] = value
file = Path("/tmp/server.properties")  # noqa: S108 - of the container
file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()), encoding="utf-8")
command = [*JAVA, "kafka.tools.StorageTool", "format", f"--cluster-id={CLUSTER}", f"--config={file}"]
subprocess.run([*command, "--ignore-formatted"], check=True)
os.execv(JAVA[0], [*JAVA, "kafka.Kafka", str(file)])  # noqa: S606 - no shell is wanted: SIGTERM is for Java
