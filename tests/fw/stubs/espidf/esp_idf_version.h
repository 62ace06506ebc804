/* Stub of ESP-IDF's esp_idf_version.h for compile tests: 4, as under PlatformIO's Arduino, or 5. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESP_IDF_VERSION_H
#define ESP_IDF_VERSION_H

#ifndef ESP_IDF_VERSION_MAJOR
#define ESP_IDF_VERSION_MAJOR 5
#endif

#endif
